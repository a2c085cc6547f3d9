#include "server/openai/models.h"

#include "base/json.h"

namespace bifocal::server::openai {
namespace {

void write_card(JsonWriter& json, const ServingContext& context) {
  json.begin_object();
  json.member("id", context.served_model_name).member("object", "model").member("created", context.created_s);
  json.member("owned_by", "bifocal").member("root", context.served_model_name);
  json.key("parent").null();
  json.member("max_model_len", context.engine->context_length());
  json.end_object();
}

}  // namespace

void handle_models(const Call& call) {
  JsonWriter json;
  json.begin_object().member("object", "list").key("data").begin_array();
  write_card(json, *call.context);
  json.end_array().end_object();
  call.respond_json(json.take());
}

void handle_model(const Call& call) {
  std::string id;
  if (!http::percent_decode(call.exchange->request().path_tail, id) ||
      id != call.context->served_model_name) {
    ApiError error = not_found_error("no such model; GET /v1/models lists the one that is served");
    error.code = "model_not_found";
    return call.fail(error);
  }
  JsonWriter json;
  write_card(json, *call.context);
  call.respond_json(json.take());
}

}  // namespace bifocal::server::openai
