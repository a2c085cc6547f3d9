#include "server/native/profile.h"

#include <algorithm>

#include "server/request_fields.h"

namespace bifocal::server::native {
namespace {

constexpr int64_t kMaxSteps = int64_t{1} << 53;
constexpr size_t kMaxPathBytes = 4096;

Expected<ProfileRequest> parse(const JsonReader& body) {
  ProfileRequest request;
  BIFOCAL_ASSIGN_OR_RETURN(const auto output_dir, body.get_string("output_dir", kMaxPathBytes));
  BIFOCAL_ASSIGN_OR_RETURN(const auto start_step, body.get_int("start_step", 0, kMaxSteps));
  BIFOCAL_ASSIGN_OR_RETURN(const auto num_steps, body.get_int("num_steps", 1, kMaxSteps));
  BIFOCAL_ASSIGN_OR_RETURN(const auto activities, body.get_strings("activities", 16, 64));
  for (const std::string& activity : activities) {
    if (activity != "CPU" && activity != "GPU")
      return unsupported("activities: CPU and GPU are recorded here, nothing else");
  }
  if (!activities.empty())
    request.gpu = std::find(activities.begin(), activities.end(), "GPU") != activities.end();
  BIFOCAL_ASSIGN_OR_RETURN(const auto by_stage, body.get_bool("profile_by_stage"));
  if (by_stage.value_or(false)) {
    return unsupported(
        "profile_by_stage: a step may hold both stages here; one trace shows them as spans of their own");
  }
  for (const std::string_view idle : {"with_stack", "record_shapes", "merge_profiles"}) {
    BIFOCAL_RETURN_IF_ERROR(body.get_bool(idle).status());
  }
  if (output_dir && output_dir->find('\0') != std::string::npos)
    return invalid_argument("output_dir: no path has a NUL");
  request.output_dir = output_dir.value_or("");
  request.start_step = static_cast<uint64_t>(start_step.value_or(0));
  request.num_steps = static_cast<uint64_t>(num_steps.value_or(0));
  return request;
}

Expected<std::string> start(const Call& call) {
  ProfileRequest request;
  if (!call.exchange->request().body.empty()) {
    BIFOCAL_ASSIGN_OR_RETURN(const JsonValue document, parse_body(call));
    BIFOCAL_ASSIGN_OR_RETURN(const JsonReader body, JsonReader::open(document));
    BIFOCAL_ASSIGN_OR_RETURN(request, parse(body));
  }
  return call.services->profiler.start(request);
}

void answer(const Call& call, std::string_view message, const Expected<std::string>& path) {
  if (!path.ok()) return call.fail(path.status());
  JsonWriter json;
  json.begin_object().member("success", true).member("message", message).member("path", *path).end_object();
  call.respond_json(json.take());
}

}  // namespace

void handle_start_profile(const Call& call) {
  answer(call, "recording", start(call));
}

void handle_stop_profile(const Call& call) {
  answer(call, "written", call.services->profiler.stop());
}

}  // namespace bifocal::server::native
