#include "cli/local_server.h"

#include <algorithm>

#include "cli/serve.h"

namespace bifocal::cli {

Expected<std::unique_ptr<LocalServer>> LocalServer::start(const Settings& settings, int64_t max_requests) {
  Settings here = settings;
  here.serve = ServeSettings();
  here.serve.port = 0;
  here.serve.profile_dir = ".";  // used when a client asks for a profile
  here.serve.max_connections = std::max(here.serve.max_connections, max_requests);
  here.engine.max_queued_requests = std::max(here.engine.max_queued_requests, max_requests);
  BIFOCAL_ASSIGN_OR_RETURN(server::ServerOptions options, server_options(here));
  BIFOCAL_ASSIGN_OR_RETURN(auto server, server::Server::create(std::move(options)));
  BIFOCAL_ASSIGN_OR_RETURN(Stack stack, load_stack(here));
  server->start();
  server->set_ready(serving_context(here, stack));
  return std::unique_ptr<LocalServer>(new LocalServer(std::move(stack), std::move(server)));
}

}  // namespace bifocal::cli
