// A request's way through the engine, for traces: queued, prefill, decode.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/trace.h"

namespace bifocal::engine {

class RequestStages {
 public:
  enum class Stage : uint8_t { none, queued, prefill, decode, over };

  RequestStages(std::string id, int64_t prompt_tokens) : id_(std::move(id)), prompt_tokens_(prompt_tokens) {}

  // Ends the stage it is in. Only ever forward: a request that is put back stays where it was.
  void enter(Stage stage) {
    if (stage <= stage_) return;
    constexpr std::string_view kNames[] = {"", "queued", "prefill", "decode", ""};
    const auto name = [&](Stage s) { return kNames[static_cast<size_t>(s)]; };
    if (stage_ != Stage::none) trace::async_end(trace::Kind::request, name(stage_), id_, {prompt_tokens_});
    if (stage != Stage::over) trace::async_begin(trace::Kind::request, name(stage), id_, {prompt_tokens_});
    stage_ = stage;
  }

 private:
  std::string id_;
  int64_t prompt_tokens_;
  Stage stage_ = Stage::none;
};

}  // namespace bifocal::engine
