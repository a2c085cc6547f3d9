// POST /start_profile and /stop_profile.
#include <gtest/gtest.h>
#include <zlib.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <utility>

#include "base/trace.h"
#include "server/server_fixture.h"

namespace bifocal::server {
namespace {

namespace fs = std::filesystem;

// A folder of the test's own, gone afterwards.
struct Folder {
  Folder() {
    std::string name = (fs::path(testing::TempDir()) / "profile-XXXXXX").string();
    path = mkdtemp(name.data());
  }
  ~Folder() { fs::remove_all(path); }
  fs::path path;
};

ServerOptions options_for(const Folder& folder) {
  ServerOptions options = test_options();
  options.profile_dir = folder.path.string();
  return options;
}

JsonValue read_trace(const std::string& path) {
  std::string text;
  gzFile file = gzopen(path.c_str(), "rb");
  char block[4096];
  for (int n = 0; file != nullptr && (n = gzread(file, block, sizeof block)) > 0;) {
    text.append(block, static_cast<size_t>(n));
  }
  if (file != nullptr) gzclose(file);
  auto json = parse_json(text);
  EXPECT_TRUE(json.ok()) << json.status().message();
  return json.ok() ? *json : JsonValue();
}

TEST(Profile, HoldsTheHttpRequestsOfItsTime) {
  const Folder folder;
  TestServer server(options_for(folder));
  const Reply started = server.post("/start_profile", R"({"output_dir":"a/b","activities":["CPU","GPU"]})");
  ASSERT_EQ(started.status, 200) << started.body;
  EXPECT_EQ(server.post("/v1/completions", R"({"prompt":"hello","max_tokens":3})").status, 200);
  const Reply stopped = server.post("/stop_profile", "");
  ASSERT_EQ(stopped.status, 200) << stopped.body;
  const JsonValue answer = *parse_json(stopped.body);
  const std::string path = text_of(at(answer, "path"));
  EXPECT_EQ(path, text_of(at(*parse_json(started.body), "path")));
  EXPECT_TRUE(path.starts_with((fs::canonical(folder.path) / "a" / "b").string())) << path;

  bool handled = false;
  int request_ends = 0;
  const JsonValue trace = read_trace(path);
  for (const JsonValue& event : at(trace, "traceEvents").as_array()) {
    const std::string name = text_of(at(event, "name"));
    const std::string ph = text_of(at(event, "ph"));
    if (ph == "X" && name == "/v1/completions") handled = true;
    if ((ph == "b" || ph == "e") && name == "request") ++request_ends;
  }
  EXPECT_TRUE(handled);
  EXPECT_EQ(request_ends, 2);
}

class FakeGpu final : public trace::Source {
 public:
  Status start(size_t) override {
    ++starts;
    return {};
  }
  void stop(trace::Recording& recording) override { recording.notes.emplace_back("a fake GPU"); }
  std::atomic<int> starts{0};
};

TEST(Profile, ActivitiesSayWhetherGpusAreRecorded) {
  static auto* gpu = new FakeGpu;  // sources live as long as the process
  trace::add_source(*gpu);
  const Folder folder;
  TestServer server(options_for(folder));
  const std::pair<std::string, int> cases[] = {{R"({"activities":["CPU"]})", 0},
                                               {R"({"activities":["CPU","GPU"]})", 1},
                                               {R"({"activities":[]})", 2},
                                               {"{}", 3}};
  for (const auto& [body, starts] : cases) {
    ASSERT_EQ(server.post("/start_profile", body).status, 200) << body;
    ASSERT_EQ(server.post("/stop_profile", "").status, 200) << body;
    EXPECT_EQ(gpu->starts, starts) << body;
  }
}

TEST(Profile, MistakesAreRefusedAndSaidClearly) {
  const Folder folder;
  const Folder elsewhere;
  TestServer server(options_for(folder));
  EXPECT_EQ(server.post("/stop_profile", "").status, 400);
  fs::create_directory_symlink(elsewhere.path, folder.path / "link");
  std::ofstream(folder.path / "file") << "not a folder";
  const std::string outside = R"({"output_dir":")" + elsewhere.path.string() + "\"}";
  for (const std::string& body :
       {outside, std::string(R"({"output_dir":"../x"})"), std::string(R"({"output_dir":"/etc"})"),
        std::string(R"({"output_dir":"link/x"})"), std::string(R"({"output_dir":"file/x"})"),
        std::string(R"({"output_dir":"a\u0000b"})"), std::string(R"({"num_steps":0})"),
        std::string(R"({"num_steps":"many"})"), std::string(R"({"start_step":-1})"),
        std::string(R"({"activities":["CUDA_PROFILER"]})"), std::string(R"({"profile_by_stage":true})")}) {
    const Reply reply = server.post("/start_profile", body);
    EXPECT_EQ(reply.status, 400) << body << reply.body;
  }
  EXPECT_TRUE(fs::is_empty(elsewhere.path));
  ASSERT_EQ(server.post("/start_profile", "{}").status, 200);
  const Reply again = server.post("/start_profile", "{}");
  EXPECT_EQ(again.status, 400);
  EXPECT_NE(again.body.find("already"), std::string::npos) << again.body;
  EXPECT_EQ(server.post("/stop_profile", "").status, 200);
  EXPECT_EQ(server.post("/stop_profile", "").status, 400);
}

TEST(Profile, IsOffWithoutAFolder) {
  TestServer server;
  const Reply reply = server.post("/start_profile", "{}");
  EXPECT_EQ(reply.status, 400);
  EXPECT_NE(reply.body.find("--profile-dir"), std::string::npos) << reply.body;
  EXPECT_FALSE(trace::is_on());
}

TEST(Profile, TheFolderIsCheckedWhenTheServerStarts) {
  const Folder folder;
  std::ofstream(folder.path / "file") << "not a folder";
  ServerOptions options = test_options();
  options.profile_dir = (folder.path / "file" / "x").string();
  const auto server = Server::create(options);
  ASSERT_EQ(server.status().code(), StatusCode::invalid_argument);
  EXPECT_NE(server.status().message().find("--profile-dir"), std::string::npos);
}

TEST(Profile, EndsByItselfAfterItsSteps) {
  const Folder folder;
  TestServer server(options_for(folder));
  for (int round = 0; round < 3; ++round) {  // one after another, each with a waiter of its own
    const Reply started = server.post("/start_profile", R"({"num_steps":2})");
    ASSERT_EQ(started.status, 200) << started.body;
    const std::string path = text_of(at(*parse_json(started.body), "path"));
    for (int64_t step = 0; step < 5; ++step) const trace::StepSpan span({step});  // the engine's
    ASSERT_TRUE(eventually([&] { return fs::exists(path); }));
    EXPECT_EQ(at(read_trace(path), "otherData", "steps").as_int(), 2);
  }
}

TEST(Profile, AServerThatGoesWritesWhatItHas) {
  const Folder folder;
  std::string path;
  {
    TestServer server(options_for(folder));
    const Reply started = server.post("/start_profile", R"({"num_steps":1000})");
    ASSERT_EQ(started.status, 200) << started.body;
    path = text_of(at(*parse_json(started.body), "path"));
  }
  EXPECT_TRUE(fs::exists(path));
  EXPECT_FALSE(trace::stop().ok()) << "nothing goes on recording";
}

}  // namespace
}  // namespace bifocal::server
