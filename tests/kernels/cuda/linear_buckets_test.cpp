#include "kernels/cuda/linear_buckets.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <utility>
#include <vector>

namespace bifocal::kernels::cuda {
namespace {

LinearChoice choice(int number) {
  LinearChoice choice;
  choice.us = number;
  return choice;
}

using Rows = std::pair<int, int>;

// Choices by number: that of a bucket's most rows, where `has` says so.
struct Library {
  std::vector<int> has;       // most rows
  std::vector<Rows> passing;  // least rows and the choice
  std::vector<Rows> asked;

  BucketChecks checks() {
    BucketChecks checks;
    checks.best = [this](LinearRows rows) -> Expected<LinearChoice> {
      asked.emplace_back(rows.least, rows.most);
      if (std::find(has.begin(), has.end(), rows.most) == has.end()) return unsupported("none");
      return choice(rows.most);
    };
    checks.passes = [this](LinearRows rows, const LinearChoice& of) -> Expected<bool> {
      return std::find(passing.begin(), passing.end(), Rows(rows.least, static_cast<int>(of.us))) !=
             passing.end();
    };
    return checks;
  }
};

TEST(LinearBuckets, EachHasItsOwn) {
  Library library{{16, 32, 50}, {}, {}};
  const auto found = choices_by_bucket({9, 50}, library.checks());
  ASSERT_TRUE(found.ok());
  EXPECT_EQ(library.asked, (std::vector<Rows>{{9, 16}, {17, 32}, {33, 50}}));
  EXPECT_EQ(found->size(), 3U);
  EXPECT_EQ(found->at(16).us, 16);
  EXPECT_EQ(found->at(32).us, 32);
  EXPECT_EQ(found->at(64).us, 50);
}

TEST(LinearBuckets, FirstRowsAreABucketToo) {
  Library library{{8, 9}, {}, {}};
  const auto found = choices_by_bucket({1, 9}, library.checks());
  ASSERT_TRUE(found.ok());
  EXPECT_EQ(library.asked, (std::vector<Rows>{{1, 8}, {9, 9}}));
  EXPECT_EQ(found->at(8).us, 8);
  EXPECT_EQ(found->at(16).us, 9);
}

TEST(LinearBuckets, NoRowsNeedNone) {
  Library library{{}, {}, {}};
  const auto found = choices_by_bucket({9, 4}, library.checks());
  ASSERT_TRUE(found.ok());
  EXPECT_TRUE(found->empty());
}

TEST(LinearBuckets, OneWithoutTakesTheNearestThatPasses) {
  // 64's could serve 33 to 64 rows only: 17 to 32 take 16's, which is nearer than 128's.
  Library library{{16, 64, 128}, {{17, 16}, {17, 128}}, {}};
  const auto found = choices_by_bucket({9, 128}, library.checks());
  ASSERT_TRUE(found.ok());
  EXPECT_EQ(found->at(32).us, 16);
  library.passing = {{17, 16}, {17, 64}, {17, 128}};
  EXPECT_EQ(choices_by_bucket({9, 128}, library.checks())->at(32).us, 64);
  library.passing = {{17, 128}};
  EXPECT_EQ(choices_by_bucket({9, 128}, library.checks())->at(32).us, 128);
}

TEST(LinearBuckets, WithoutAnyItSaysWhichRows) {
  Library library{{16, 64}, {{33, 16}}, {}};
  const Status status = choices_by_bucket({9, 64}, library.checks()).status();
  EXPECT_EQ(status.code(), StatusCode::unsupported);
  EXPECT_EQ(status.message(), "nothing passes for 17 to 32 rows");
}

TEST(LinearBuckets, OtherErrorsAreNotOvercome) {
  Library library{{16, 32}, {{17, 16}}, {}};
  BucketChecks checks = library.checks();
  checks.best = [](LinearRows) -> Expected<LinearChoice> { return internal_error("the device is gone"); };
  EXPECT_EQ(choices_by_bucket({9, 32}, checks).status().message(), "the device is gone");
}

}  // namespace
}  // namespace bifocal::kernels::cuda
