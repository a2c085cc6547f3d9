#include "bench/table.h"

#include <gtest/gtest.h>

#include "base/json.h"

namespace bifocal::bench {
namespace {

TEST(Table, RendersTheSameRowsInEveryFormat) {
  const Table table{{"name", "µs"}, {{"a,\"b\"", "1.5"}, {"long name", "20"}}};
  EXPECT_EQ(*render(table, "md"),
            "| name      | µs  |\n"
            "|-----------|-----|\n"
            "| a,\"b\"     | 1.5 |\n"
            "| long name | 20  |\n");
  EXPECT_EQ(*render(table, "csv"), "name,µs\n\"a,\"\"b\"\"\",1.5\nlong name,20\n");
  const auto json = parse_json(*render(table, "json"));
  ASSERT_TRUE(json.ok());
  EXPECT_EQ(json->as_array()[0].find("µs")->as_double(), 1.5);
  EXPECT_EQ(json->as_array()[0].find("name")->as_string(), "a,\"b\"");
  EXPECT_FALSE(render(table, "xml").ok());
}

TEST(Grid, ListsAndRanges) {
  EXPECT_EQ(*parse_grid("3"), (std::vector<int>{3}));
  EXPECT_EQ(*parse_grid("1,2,8"), (std::vector<int>{1, 2, 8}));
  EXPECT_EQ(*parse_grid("1-4"), (std::vector<int>{1, 2, 3, 4}));
  EXPECT_EQ(*parse_grid("512-4096*2,7"), (std::vector<int>{512, 1024, 2048, 4096, 7}));
  for (const char* wrong :
       {"", "a", "1,", "-1", "1-", "0-8*2", "1-8*1", "1-8*", "1.5", "99999999999", "0-1000000"}) {
    EXPECT_FALSE(parse_grid(wrong).ok()) << wrong;
  }
}

}  // namespace
}  // namespace bifocal::bench
