// Answers from an engine in this process.
#pragma once

#include <memory>

#include "engine/engine.h"
#include "eval/generator.h"
#include "text/tokenizer.h"

namespace bifocal::eval {

class EngineGenerator final : public Generator {
 public:
  // The engine must outlive the generator, and nobody else use it. Without a tokenizer queries must be
  // tokens.
  EngineGenerator(engine::Engine& engine, std::shared_ptr<const text::Tokenizer> tokenizer)
      : engine_(engine), tokenizer_(std::move(tokenizer)) {}

  Expected<std::vector<Answer>> generate(std::span<const Query> queries) override;
  Status flush_cache() override { return engine_.flush_cache(); }
  Expected<std::vector<int32_t>> encode(const std::string& text) override;

 private:
  Expected<engine::GenerateRequest> make_request(const Query& query);

  engine::Engine& engine_;
  std::shared_ptr<const text::Tokenizer> tokenizer_;
  uint64_t num_requests_ = 0;
};

}  // namespace bifocal::eval
