// Turns what the engine produced into an API's answer. One object per HTTP request; never called
// concurrently.
#pragma once

#include <string>

#include "engine/request.h"

namespace bifocal::server {

class OutputShaper {
 public:
  virtual ~OutputShaper() = default;
  // Events of one choice come in order; several of the engine's may have been merged into one. `request` is
  // the index of the prompt. When streaming, appends the server-sent events to *sse; else *sse is null and
  // the output is collected.
  virtual void add(size_t request, engine::OutputEvent event, std::string* sse) = 0;
  // When not streaming, after the last event: the answer's body.
  virtual std::string body() = 0;
  // When streaming: what follows the last event.
  virtual void end(std::string& sse) = 0;
};

}  // namespace bifocal::server
