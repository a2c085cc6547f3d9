// Probes answer whatever else is going on.
#include <gtest/gtest.h>

#include <future>

#include "server/server_fixture.h"

namespace bifocal::server {
namespace {

constexpr std::string_view kProbes[] = {"/health", "/ready", "/metrics", "/v1/models", "/get_server_info"};

void expect_probes_answer(TestServer& server) {
  for (const std::string_view path : kProbes) EXPECT_EQ(server.get(path).status, 200) << path;
}

TEST(Health, AnswersWhileEveryWorkerTokenisesAndTheEngineStands) {
  ServerOptions options = test_options();
  options.num_workers = 2;
  TestServer server(options);
  server.engine.pause(true);
  Client running(server.port());
  running.send(make_request("POST", "/generate", R"({"input_ids":[1]})"));
  ASSERT_TRUE(eventually([&] { return server.engine.submitted() == 1; }));
  auto tokenizer = std::make_shared<GatedTokenizer>();
  server.context->tokenizer = tokenizer;
  std::vector<std::unique_ptr<Client>> clients;
  for (int i = 0; i < 6; ++i) {
    clients.push_back(std::make_unique<Client>(server.port()));
    clients.back()->send(
        make_request("POST", "/generate", R"({"text":")" + std::string(1 << 20, 'a') + R"("})"));
  }
  ASSERT_TRUE(eventually([&] { return tokenizer->waiting() == 2; }));
  expect_probes_answer(server);
  tokenizer->open();
  server.engine.pause(false);
  EXPECT_EQ(running.receive_reply()->status, 200);
  for (const auto& client : clients)
    EXPECT_EQ(client->receive_reply()->status, 400);  // longer than the context
}

TEST(Health, AnswersWhileSubmittingBlocks) {
  ServerOptions options = test_options();
  options.num_workers = 2;
  TestServer server(options);
  std::promise<void> go_on;
  server.engine.set_before_submit_returns([done = go_on.get_future().share()] { done.wait(); });
  Client first(server.port()), second(server.port());
  for (Client* client : {&first, &second}) client->send(make_request("POST", "/generate", R"({"text":"a"})"));
  ASSERT_TRUE(eventually([&] { return server.engine.submitted() == 2; }));
  expect_probes_answer(server);
  go_on.set_value();
  EXPECT_EQ(first.receive_reply()->status, 200);
  EXPECT_EQ(second.receive_reply()->status, 200);
}

}  // namespace
}  // namespace bifocal::server
