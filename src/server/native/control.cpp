#include "server/native/control.h"

#include "server/generation.h"
#include "server/request_fields.h"

namespace bifocal::server::native {
namespace {

Expected<int64_t> abort(const JsonReader& body, const Call& call) {
  const int client = call.exchange->request().client;
  const LiveRequests& live = call.services->live;
  BIFOCAL_ASSIGN_OR_RETURN(const auto all, body.get_bool("abort_all"));
  BIFOCAL_ASSIGN_OR_RETURN(const auto rid, body.get_string("rid"));
  if (!all.value_or(false) && !rid) return invalid_argument("one of rid and abort_all must be given");
  if (all.value_or(false)) {
    const auto found = live.all(client);
    for (const auto& generation : found) generation->abort_by_request(-1);
    return static_cast<int64_t>(found.size());
  }
  const LiveRequests::Found found = live.find(*rid, client);
  if (found.generation == nullptr) return int64_t{0};
  found.generation->abort_by_request(found.prompt);
  return int64_t{1};
}

}  // namespace

void handle_flush_cache(const Call& call) {
  const Status status = call.context->engine->flush_cache();
  http::Response response;
  response.content_type = "text/plain; charset=utf-8";
  if (status.ok()) {
    response.body = "Cache flushed.\n";
  } else {
    response.status = 400;
    response.body = "Cache not flushed: requests are running or waiting.\n";
  }
  call.exchange->respond(response);
}

void handle_abort_request(const Call& call) {
  const auto document = parse_body(call);
  if (!document.ok()) return call.fail(document.status());
  const auto body = JsonReader::open(*document);
  if (!body.ok()) return call.fail(body.status());
  const auto aborted = abort(*body, call);
  if (!aborted.ok()) return call.fail(aborted.status());
  JsonWriter json;
  json.begin_object().member("success", true).member("aborted", *aborted).end_object();
  call.respond_json(json.take());
}

}  // namespace bifocal::server::native
