// What the process is doing, as spans of time on tracks: a track per thread, and those of sources that record
// what happens elsewhere (on a GPU). Off, a span costs one relaxed load. On, spans go to a ring of their own
// track: when it is full the oldest make room and are counted, so memory is bounded however long it runs.
//
// The recording is the process's: the one piece of process-wide mutable state, because spans are opened deep
// in kernels and a trace shows all threads on one time axis. One recording at a time.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "base/status.h"

namespace bifocal::trace {

enum class Kind : uint8_t {
  step,   // one pass of the engine
  phase,  // prefill, verify or decode within a layer's attention
  layer,
  plan,       // attention plans of a step
  attention,  // one backend, one phase, one layer; named by the backend
  gemm,       // named by the weights' dtype
  rowwise,    // norms, rotations, activations, writes to the KV cache
  sampling,
  engine,   // scheduling, delivery
  http,     // handling of an HTTP request
  request,  // a generation: queued, prefill, decode
  kernel,   // on a GPU
  copy,     // of memory to, from or on a GPU, or filling it
};
constexpr int kNumKinds = 13;

// Further numbers of a span; what they mean depends on the kind.
constexpr int kNumValues = 4;
using Values = std::array<int64_t, kNumValues>;
struct KindInfo {
  std::string_view category;
  std::array<std::string_view, kNumValues> values;  // "": unused
};
const KindInfo& kind_info(Kind kind);

struct SpanEvent {
  std::string_view name;  // lives as long as the process
  int64_t start_ns;       // SteadyClock
  int64_t end_ns;
  Values values;
  Kind kind;
};

// One end of something that begins and ends on different threads; ends belong together by id and name.
struct AsyncEvent {
  std::string_view name;
  std::string id;
  int64_t time_ns = 0;
  bool begins = false;
  Kind kind = Kind::request;
  Values values = {};
};

struct Options {
  uint64_t first_step = 0;                    // begin with the first step of this number or a later one
  uint64_t num_steps = 0;                     // finish after so many; 0: when stop() is called
  size_t max_spans = size_t{1} << 18;         // per track
  size_t max_async_events = size_t{1} << 16;  // of the process
  bool with_sources = true;
  // Of steps that should be shorter than this, by the time that the last one took for a row, every
  // kDetailEvery-th alone is recorded with what happens inside it: in steps this short, spans would cost
  // percents.
  int64_t short_step_ns = 0;
  // Sources record kSourceSteps of so many steps, the first ones; 0: all. Where num_steps is no more than
  // this, they record all, too: so few steps are asked for to be looked at.
  uint64_t source_period = 0;
};
constexpr uint64_t kDetailEvery = 4;
constexpr uint64_t kSourceSteps = 4;
// For those who want it cheap.
constexpr int64_t kShortStepNs = 500'000;
constexpr uint64_t kSourcePeriod = 64;

struct TrackRecording {
  std::string name;
  std::vector<SpanEvent> spans;  // in the order of their ends
  uint64_t dropped = 0;          // older ones that there was no room for
};
struct Recording {
  int64_t start_ns = 0;
  int64_t end_ns = 0;
  uint64_t num_steps = 0;  // that began and ended within
  uint64_t num_steps_without_detail = 0;
  uint64_t num_steps_without_sources = 0;
  std::vector<TrackRecording> tracks;
  std::vector<AsyncEvent> async_events;  // in order
  uint64_t dropped_async_events = 0;     // later ones that there was no room for
  std::vector<std::string> notes;        // what is missing and why
};

// With first_step or num_steps, recording begins with a step; else at once. invalid_argument when a recording
// is under way, or finished and not yet taken.
Status start(const Options& options);
// Ends the recording and hands it over. invalid_argument when there is none.
Expected<Recording> stop();
// Blocks until the recording has its num_steps: true; false when it was stopped or `token` asks to give up.
bool wait_until_finished(std::stop_token token);

// Records what happens elsewhere while a recording is under way.
class Source {
 public:
  virtual ~Source() = default;
  // Called before a recording begins; at most max_spans may be kept. An error becomes a note.
  virtual Status start(size_t max_spans) = 0;
  // Called between the two, before a step: what follows is recorded or not. At first it is. An error becomes
  // a note.
  virtual Status set_recording(bool) { return {}; }
  // Called once it is over, if start() succeeded: adds tracks with what began between its start and its end.
  virtual void stop(Recording& recording) = 0;
};
// Joins the recording that is under way, if any, and all later ones. `source` lives as long as the process.
void add_source(Source& source);

namespace detail {
enum State : uint8_t { off, waiting, on };
inline std::atomic<uint8_t> state{off};
inline int64_t now_ns() {
  return SteadyClock::instance().now_ns();
}
// Whether the calling thread is in a step that is recorded without what happens inside it.
inline constinit thread_local bool is_muted = false;

struct StepState {
  uint64_t session = 0;  // the recording it belongs to; 0: none
  bool mutes = false;
  int64_t rows = 1;
  int64_t start_ns = 0;
};
StepState step_begins(uint64_t number, int64_t rows);
void step_ends(const StepState& step);
void add_async(std::string_view name, std::string_view id, int64_t time_ns, bool begins, Kind kind,
               const Values& values);
}  // namespace detail

inline bool is_on() {
  return detail::state.load(std::memory_order_relaxed) == detail::on;
}

// A thread's row of the trace. The thread adds to it; any thread may take what it holds.
class Track {
 public:
  // Times are ticks (base/clock.h).
  struct Entry {
    std::string_view name;
    int64_t start_ticks;
    int64_t end_ticks;
    Values values;
    Kind kind;
  };

  explicit Track(std::string name);
  ~Track();
  Track(const Track&) = delete;
  Track& operator=(const Track&) = delete;

  // Nothing happens unless a recording is on and the span began in it. Never throws. Its own thread only.
  void add(const Entry& entry);
  void rename(std::string name);
  // The calling thread's.
  static Track& current();

 private:
  friend class Recorder;
  struct Taken {
    std::string name;
    std::vector<Entry> entries;
    uint64_t dropped = 0;
  };
  struct Free {
    void operator()(Entry* ring) const { std::free(ring); }
  };
  using Ring = std::unique_ptr<Entry[], Free>;
  static Ring allocate(size_t capacity);
  void add_to_ring(const Entry& entry);
  // By its thread, or while nothing is recorded and is_adding_ has been seen to be false.
  Taken take(uint64_t session);

  std::string name_;  // guarded by the recorder
  std::atomic<bool> is_adding_{false};
  Ring ring_;
  size_t capacity_ = 0;
  size_t next_ = 0;       // where the next entry goes
  uint64_t added_ = 0;    // of which the last capacity_ are there
  uint64_t session_ = 0;  // the recording that they belong to
};

// Also the name that debuggers and top show, as far as it fits.
void name_thread(std::string name);

// Whether a span that begins now is recorded.
inline bool records_spans() {
  return is_on() && !detail::is_muted;
}

// From construction to destruction, on the calling thread's track.
class Span {
 public:
  Span(Kind kind, std::string_view name, const Values& values = {}) {
    if (records_spans()) entry_ = {name, ticks(), 0, values, kind};
  }
  ~Span() {
    if (entry_.start_ticks != 0) end();
  }
  Span(const Span&) = delete;
  Span& operator=(const Span&) = delete;

  // Whether values are worth computing.
  bool is_recorded() const { return entry_.start_ticks != 0; }
  void set_values(const Values& values) { entry_.values = values; }

 private:
  void end();
  Track::Entry entry_{{}, 0, 0, {}, Kind::step};
};

// A step: what first_step and num_steps count. Values: number, rows, sequences, logit rows.
class StepSpan {
 public:
  explicit StepSpan(const Values& values) : guard_(values[0], values[1]), span_(Kind::step, "step", values) {
    detail::is_muted = guard_.step.mutes;
  }
  ~StepSpan() { detail::is_muted = false; }

 private:
  struct Guard {
    Guard(int64_t number, int64_t rows) {
      if (detail::state.load(std::memory_order_relaxed) != detail::off)
        step = detail::step_begins(static_cast<uint64_t>(number), rows);
    }
    ~Guard() {
      if (step.session != 0) detail::step_ends(step);
    }
    detail::StepState step;
  };
  Guard guard_;
  Span span_;  // ends first
};

inline void async_begin(Kind kind, std::string_view name, std::string_view id, const Values& values = {}) {
  if (is_on()) detail::add_async(name, id, detail::now_ns(), true, kind, values);
}
inline void async_end(Kind kind, std::string_view name, std::string_view id, const Values& values = {}) {
  if (is_on()) detail::add_async(name, id, detail::now_ns(), false, kind, values);
}
// Both ends of what is already over.
inline void async_span(Kind kind, std::string_view name, std::string_view id, int64_t start_ns,
                       int64_t end_ns, const Values& values = {}) {
  if (!is_on()) return;
  detail::add_async(name, id, start_ns, true, kind, values);
  detail::add_async(name, id, end_ns, false, kind, {});
}

}  // namespace bifocal::trace
