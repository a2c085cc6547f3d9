// One HTTP request that generates: submits its engine requests, passes their events on, and makes sure that
// the engine stops as soon as nobody waits any more.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "engine/request.h"
#include "server/call.h"
#include "server/output_shaper.h"

namespace bifocal::server {

struct GenerationPlan {
  std::vector<LiveName> names;  // what the client knows it by; unique among live ones
  // One per prompt; their ids are filled in here.
  std::vector<engine::GenerateRequest> requests;
  std::vector<bool> seed_given;       // per request; others get one
  std::vector<int> stream_intervals;  // per request: tokens per stream event
  std::unique_ptr<OutputShaper> shaper;
  bool stream = false;
  double timeout_s = 0;
  ApiError timeout_error = deadline_error();
};

// Parses the call's body, plans and starts. A planner's errors become the answer.
using GenerationPlanner = Expected<GenerationPlan> (*)(const JsonReader& body, const Call& call);
void handle_generation(const Call& call, GenerationPlanner planner);

class Generation : public std::enable_shared_from_this<Generation> {
 public:
  // Answers the call, now with a refusal or later with output. A worker thread calls it.
  static void start(const Call& call, GenerationPlan plan);
  Generation(const Call& call, GenerationPlan plan);

  // Ends it early from outside: the client gets `error`, the engine stops.
  void cut(AbortReason reason, ApiError error);
  // As the client's own wish (/abort_request): the output so far is the answer. prompt -1: all of the batch.
  void abort_by_request(int prompt);

 private:
  // What the engine made of one choice and nobody has shown yet: events merged into one.
  struct Unshown {
    engine::OutputEvent event;
    int64_t first_ns = 0;  // arrival of the first and the latest of them
    int64_t last_ns = 0;
  };
  struct Choice {
    std::optional<Unshown> unshown;
    bool due = false;    // in due_
    bool begun = false;  // its first event became due
  };
  // One engine request.
  struct Part {
    size_t first_choice = 0;  // in choices_
    size_t owed = 0;          // choices whose end the engine still owes
    bool submitted = false;
    bool aborted = false;
  };
  // What the log line says.
  struct Totals {
    int64_t prompt_tokens = 0;
    int64_t cached_tokens = 0;
    int64_t completion_tokens = 0;
    std::string_view finish = "none";
  };

  bool submit_all();
  ApiError refusal_of(const Status& status) const;
  void on_event(size_t request, engine::OutputEvent event);  // the engine's thread
  void on_disconnect();
  void schedule_if_due();
  bool worth_showing(size_t request, const Choice& choice) const;
  void drain();
  bool drain_once();
  void show(size_t request, Unshown unshown, std::string* sse);
  void finish_answer(std::string sse);
  void fail_answer(const ApiError& error);
  void close(AbortReason reason);
  void abort_part(size_t request);
  void abort_all_parts();
  void leave_if_over();
  void time_tokens(size_t request, const Unshown& unshown);

  const Call call_;
  GenerationPlan plan_;
  const int64_t started_ns_;
  std::vector<std::string> engine_ids_;

  // Touched by the drain job alone; one runs at a time.
  std::vector<std::vector<int64_t>> last_token_ns_;  // [request][choice]; 0: none yet
  std::vector<Totals> totals_;                       // [request]
  size_t choices_left_ = 0;

  std::mutex mutex_;
  std::vector<Part> parts_;                  // [request]
  std::vector<Choice> choices_;              // of all requests
  std::vector<std::pair<size_t, int>> due_;  // (request, choice) with something to show, in order
  size_t owed_ = 0;                          // over all parts
  bool scheduled_ = false;                   // a drain job is posted or runs
  bool done_ = false;                        // nothing more is shown
  std::optional<std::pair<AbortReason, ApiError>> cut_;
};

}  // namespace bifocal::server
