// Answers from a server that speaks SGLang's native API: POST /generate, /tokenize, /flush_cache.
#pragma once

#include <memory>
#include <string>

#include "eval/generator.h"
#include "server/http/http_client.h"

namespace bifocal::eval {

class HttpGenerator final : public Generator {
 public:
  static Expected<std::unique_ptr<HttpGenerator>> create(std::string_view base_url,
                                                         server::http::ClientOptions options = {});

  // Errors: what the client's are; data_loss when an answer isn't of the expected shape; otherwise the
  // server's status and message.
  Expected<std::vector<Answer>> generate(std::span<const Query> queries) override;
  Status flush_cache() override;
  Expected<std::vector<int32_t>> encode(const std::string& text) override;

 private:
  explicit HttpGenerator(std::unique_ptr<server::http::HttpClient> client) : client_(std::move(client)) {}
  Expected<std::string> post(std::string path, std::string body);

  std::unique_ptr<server::http::HttpClient> client_;
};

}  // namespace bifocal::eval
