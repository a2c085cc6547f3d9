// A model served over HTTP by this process, for as long as this lives.
#pragma once

#include <memory>
#include <string>

#include "cli/settings.h"
#include "cli/stack.h"
#include "server/app.h"

namespace bifocal::cli {

class LocalServer {
 public:
  // Loads the model and serves it on any free port of the loopback interface; max_requests find room at once.
  static Expected<std::unique_ptr<LocalServer>> start(const Settings& settings, int64_t max_requests);
  std::string url() const { return server_->url(); }

 private:
  LocalServer(Stack stack, std::unique_ptr<server::Server> server)
      : stack_(std::move(stack)), server_(std::move(server)) {}

  Stack stack_;  // outlives the server
  std::unique_ptr<server::Server> server_;
};

}  // namespace bifocal::cli
