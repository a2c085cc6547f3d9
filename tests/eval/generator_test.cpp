// Answers over HTTP from our own server with the bundled model, and from servers that are wrong on purpose.
#include <gtest/gtest.h>

#include <atomic>

#include "engine/bundled_model.h"
#include "eval/determinism.h"
#include "eval/engine_generator.h"
#include "eval/http_generator.h"
#include "eval/perplexity.h"
#include "server/app.h"
#include "server/http/http_server.h"

namespace bifocal::eval {
namespace {

// The bundled model behind the real server.
class BundledServer {
 public:
  BundledServer() {
    engine::EngineOptions options;
    options.kv_dtype = DType::bf16;
    options.max_total_tokens = 16384;
    options.chunked_prefill_size = 256;
    options.deterministic = true;
    options.pool = std::make_shared<ThreadPool>(2);
    engine_ = engine::bundled_engine(options);
    auto tokenizer = text::Tokenizer::load(engine::bundled_model_directory() + "/tokenizer.json");
    auto created = server::Server::create({});
    EXPECT_TRUE(tokenizer.ok() && created.ok());
    server_ = std::move(*created);
    auto context = std::make_shared<server::ServingContext>();
    context->engine = engine_.get();
    context->tokenizer = tokenizer_ = std::move(*tokenizer);
    context->vocab_size = engine_->model().spec().vocab_size;
    server_->start();
    server_->set_ready(context);
  }
  ~BundledServer() { server_->stop(); }
  std::string url() const { return server_->url(); }
  engine::Engine& engine() { return *engine_; }
  std::shared_ptr<const text::Tokenizer> tokenizer() const { return tokenizer_; }

 private:
  std::shared_ptr<const text::Tokenizer> tokenizer_;
  std::unique_ptr<engine::Engine> engine_;
  std::unique_ptr<server::Server> server_;
};

std::unique_ptr<HttpGenerator> connect(const std::string& url) {
  auto generator = HttpGenerator::create(url);
  EXPECT_TRUE(generator.ok()) << generator.status().message();
  return std::move(*generator);
}

TEST(HttpGenerator, AnswersAsTheEngineDoes) {
  BundledServer server;
  const auto over_http = connect(server.url());
  EngineGenerator in_process(server.engine(), server.tokenizer());
  std::vector<Query> queries(3);
  queries[0].text = "Tell me a story.";
  queries[1].text = "What is 12 + 30?";
  queries[1].temperature = 0.9;
  queries[2].text = "A";
  queries[2].max_new_tokens = 3;
  for (const bool as_tokens : {false, true}) {
    if (as_tokens) {
      for (Query& query : queries) query.token_ids = *server.tokenizer()->encode(query.text);
    }
    const auto a = over_http->generate(queries);
    const auto b = in_process.generate(queries);
    ASSERT_TRUE(a.ok()) << a.status().message();
    ASSERT_TRUE(b.ok()) << b.status().message();
    for (size_t i = 0; i < queries.size(); ++i) EXPECT_EQ((*a)[i].fingerprint(), (*b)[i].fingerprint()) << i;
    EXPECT_EQ((*a)[2].token_ids.size(), 3U);
  }
  EXPECT_TRUE(over_http->flush_cache().ok());
}

TEST(HttpGenerator, PerplexityAsInProcess) {
  BundledServer server;
  const auto over_http = connect(server.url());
  EngineGenerator in_process(server.engine(), server.tokenizer());
  const std::string text = "Question: Ann has 3 pears and 4 \"plums\". How many pieces of fruit?\nAnswer: 7";
  const auto ids = over_http->encode(text);
  ASSERT_TRUE(ids.ok()) << ids.status().message();
  EXPECT_EQ(*ids, *in_process.encode(text));
  const PerplexityOptions options{12, 5, 3, {}};
  const auto a = run_perplexity(*over_http, *ids, options);
  const auto b = run_perplexity(in_process, *ids, options);
  ASSERT_TRUE(a.ok()) << a.status().message();
  ASSERT_TRUE(b.ok()) << b.status().message();
  EXPECT_EQ(a->nll, b->nll);
  EXPECT_EQ(a->scored_tokens, static_cast<int64_t>(ids->size()) - 1);
}

TEST(HttpGenerator, OurServerIsDeterministic) {
  BundledServer server;
  const auto generator = connect(server.url());
  DeterminismOptions options;
  options.num_trials = 4;
  options.num_start = 9;
  options.max_new_tokens = 20;
  options.num_mates = 3;
  for (const auto mode : {DeterminismMode::single, DeterminismMode::mixed, DeterminismMode::prefix,
                          DeterminismMode::radix_cache}) {
    const auto report = run_determinism(*generator, mode, options);
    ASSERT_TRUE(report.ok()) << report.status().message();
    EXPECT_TRUE(report->deterministic()) << to_string(mode) << "\n" << report->text();
  }
}

// Answers every POST with what `answer` says.
class FakeServer final : public server::http::Application {
 public:
  using Answer = std::function<server::http::Response(std::string_view path, const std::string& body)>;
  explicit FakeServer(Answer answer) : answer_(std::move(answer)) {
    auto listening = server::http::HttpServer::listen({}, *this);
    EXPECT_TRUE(listening.ok());
    http_ = std::move(*listening);
    http_->start();
  }
  ~FakeServer() override { http_->stop(); }
  std::string url() const { return "http://127.0.0.1:" + std::to_string(http_->port()); }

  std::optional<server::http::Response> screen(server::http::Request&) override { return std::nullopt; }
  void handle(const std::shared_ptr<server::http::Exchange>& exchange) override {
    exchange->respond(answer_(exchange->request().path, exchange->request().body));
  }
  server::http::Response refusal(int status, std::string_view) override { return {status, "", "", {}}; }
  void finished(const server::http::Exchange&) override {}
  void connections_changed(int) override {}

 private:
  Answer answer_;
  std::unique_ptr<server::http::HttpServer> http_;
};

server::http::Response json_answer(std::string body, int status = 200) {
  server::http::Response response;
  response.status = status;
  response.body = std::move(body);
  return response;
}

// `logprob` of the i-th answer of the server's life.
server::http::Response answer_batch(const std::string& body, const std::function<double()>& logprob) {
  const auto request = parse_json(body);
  EXPECT_TRUE(request.ok());
  const JsonValue* prompts = request->find("text");
  if (prompts == nullptr) prompts = request->find("input_ids");
  JsonWriter json;
  json.begin_array();
  for (size_t i = 0; i < prompts->as_array().size(); ++i) {
    json.begin_object().member("text", "hello").key("meta_info").begin_object();
    json.key("output_token_logprobs").begin_array().begin_array();
    json.value(logprob()).value(7).null();
    json.end_array().end_array().end_object().end_object();
  }
  json.end_array();
  return json_answer(json.take());
}

TEST(HttpGenerator, AServerThatIsWrongNowAndThenIsFound) {
  for (const bool wrong : {false, true}) {
    std::atomic<int> answers{0};
    FakeServer server([&](std::string_view path, const std::string& body) {
      if (path == "/flush_cache") return json_answer("{}");
      // A late one is a little off.
      return answer_batch(body, [&] { return ++answers > 40 && wrong ? -0.5000001 : -0.5; });
    });
    const auto generator = connect(server.url());
    DeterminismOptions options;
    options.num_trials = 12;
    for (const auto mode : {DeterminismMode::single, DeterminismMode::prefix}) {
      answers = 0;
      const auto report = run_determinism(*generator, mode, options);
      ASSERT_TRUE(report.ok()) << report.status().message();
      EXPECT_EQ(report->deterministic(), !wrong) << report->text();
    }
  }
}

TEST(HttpGenerator, AnswersOfAnotherShapeAreErrors) {
  Query query;
  query.text = "a";
  for (const auto& [status, body, expected] : std::vector<std::tuple<int, std::string, std::string>>{
           {200, "not json", "JSON"},
           {200, "{}", "a list of 1 answers"},
           {200, "[]", "a list of 1 answers"},
           {200, "[7]", "[0]"},
           {200, R"([{"text":"x"}])", "meta_info"},
           {200, R"([{"text":"x","meta_info":{}}])", "output_token_logprobs"},
           {200, R"([{"text":"x","meta_info":{"output_token_logprobs":[["a",1]]}}])",
            "output_token_logprobs"},
           {500, "out of order", "out of order"}}) {
    FakeServer server(
        [&, s = status, b = body](std::string_view, const std::string&) { return json_answer(b, s); });
    const auto answers = connect(server.url())->generate({&query, 1});
    ASSERT_FALSE(answers.ok()) << body;
    EXPECT_NE(answers.status().message().find(expected), std::string::npos) << answers.status().message();
  }
}

}  // namespace
}  // namespace bifocal::eval
