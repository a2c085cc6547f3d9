#include "base/trace.h"

#include <fmt/format.h>
#include <pthread.h>
#include <unistd.h>

#include <algorithm>
#include <condition_variable>
#include <utility>

#include "base/clock.h"

namespace bifocal::trace {
namespace {

constexpr KindInfo kKinds[kNumKinds] = {
    {"step", {"step", "rows", "sequences", "logit_rows"}},
    {"phase", {"sequences", "", "", ""}},
    {"layer", {"layer", "", "", ""}},
    {"plan", {"sequences", "", "", ""}},
    {"attention", {"rows", "sequences", "flops", "bytes"}},
    {"gemm", {"m", "n", "k", "bytes"}},
    {"rowwise", {"rows", "", "", ""}},
    {"sampling", {"rows", "", "", ""}},
    {"engine", {"requests", "", "", ""}},
    {"http", {"status", "bytes", "", ""}},
    {"request", {"prompt_tokens", "", "", ""}},
};

// Tracks that ended during a recording, whose spans it keeps.
constexpr size_t kMaxEndedTracks = 256;

}  // namespace

const KindInfo& kind_info(Kind kind) {
  return kKinds[static_cast<size_t>(kind)];
}

// The recording under way. Locks: the recorder's before a track's.
class Recorder {
 public:
  // Never destroyed: threads may outlive main's statics.
  static Recorder& instance() {
    static auto* recorder = new Recorder;
    return *recorder;
  }

  Status start(const Options& options) {
    std::lock_guard lock(mutex_);
    if (active_) return invalid_argument("a profile is already being recorded; stop it first");
    active_ = true;
    finished_ = false;
    options_ = options;
    recording_ = {};
    session.fetch_add(1);
    max_spans.store(std::max<size_t>(1, options.max_spans));
    if (options.first_step == 0 && options.num_steps == 0) {
      begin();
    } else {
      detail::state.store(detail::waiting, std::memory_order_release);
    }
    return {};
  }

  Expected<Recording> stop() {
    std::lock_guard lock(mutex_);
    if (!active_) return invalid_argument("no profile is being recorded; start one first");
    end();
    active_ = false;
    changed_.notify_all();
    for (Track* track : tracks_) keep(*track);
    return std::exchange(recording_, {});
  }

  bool wait_until_finished(std::stop_token token) {
    std::unique_lock lock(mutex_);
    const uint64_t waited_for = session.load();
    changed_.wait(lock, std::move(token),
                  [&] { return finished_ || !active_ || session.load() != waited_for; });
    return finished_ && active_ && session.load() == waited_for;
  }

  uint64_t step_begins(uint64_t number) {
    std::lock_guard lock(mutex_);
    if (active_ && !finished_ && detail::state.load() == detail::waiting && number >= options_.first_step) {
      begin();
    }
    return detail::state.load() == detail::on ? session.load() : 0;
  }

  void step_ends(uint64_t began_in) {
    std::lock_guard lock(mutex_);
    if (detail::state.load() != detail::on || began_in != session.load()) return;
    ++recording_.num_steps;
    if (options_.num_steps == 0 || recording_.num_steps < options_.num_steps) return;
    end();
    finished_ = true;
    changed_.notify_all();
  }

  void add_async(AsyncEvent event) {
    std::lock_guard lock(mutex_);
    if (detail::state.load() != detail::on) return;
    if (recording_.async_events.size() >= options_.max_async_events) {
      ++recording_.dropped_async_events;
    } else {
      recording_.async_events.push_back(std::move(event));
    }
  }

  void attach(Track& track) {
    std::lock_guard lock(mutex_);
    tracks_.push_back(&track);
  }
  void detach(Track& track) {
    std::lock_guard lock(mutex_);
    std::erase(tracks_, &track);
    if (active_ && recording_.tracks.size() < kMaxEndedTracks) keep(track);
  }

  // What Track::add reads without the lock.
  std::atomic<uint64_t> session{0};
  std::atomic<int64_t> start_ns{0};
  std::atomic<size_t> max_spans{1};

 private:
  void begin() {
    recording_.start_ns = detail::now_ns();
    start_ns.store(recording_.start_ns);
    detail::state.store(detail::on, std::memory_order_release);
  }
  void end() {
    if (detail::state.exchange(detail::off) == detail::on) recording_.end_ns = detail::now_ns();
  }
  void keep(Track& track) {
    TrackRecording taken = track.take(session.load());
    if (!taken.spans.empty() || taken.dropped > 0) recording_.tracks.push_back(std::move(taken));
  }

  std::mutex mutex_;
  std::condition_variable_any changed_;
  std::vector<Track*> tracks_;
  bool active_ = false;    // start() to stop()
  bool finished_ = false;  // by num_steps
  Options options_;
  Recording recording_;
};

Status start(const Options& options) {
  return Recorder::instance().start(options);
}
Expected<Recording> stop() {
  return Recorder::instance().stop();
}
bool wait_until_finished(std::stop_token token) {
  return Recorder::instance().wait_until_finished(std::move(token));
}

namespace detail {

int64_t now_ns() {
  return SteadyClock::instance().now_ns();
}
uint64_t step_begins(uint64_t number) {
  return Recorder::instance().step_begins(number);
}
void step_ends(uint64_t session) {
  Recorder::instance().step_ends(session);
}
void add_async(std::string_view name, std::string_view id, int64_t time_ns, bool begins, Kind kind,
               const Values& values) {
  Recorder::instance().add_async({name, std::string(id), time_ns, begins, kind, values});
}

}  // namespace detail

// --- tracks ---

Track::Track(std::string name) : name_(std::move(name)) {
  Recorder::instance().attach(*this);
}

Track::~Track() {
  Recorder::instance().detach(*this);
}

void Track::add(const SpanEvent& event) {
  Recorder& recorder = Recorder::instance();
  std::lock_guard lock(mutex_);
  if (detail::state.load(std::memory_order_acquire) != detail::on) return;
  const uint64_t session = recorder.session.load();
  if (event.start_ns < recorder.start_ns.load()) return;
  if (session_ != session) {
    session_ = session;
    added_ = 0;
    const size_t wanted = recorder.max_spans.load();
    if (capacity_ != wanted) {
      // Not new[]: that would write to all of it, and untouched memory costs nothing.
      ring_.reset(static_cast<SpanEvent*>(std::malloc(wanted * sizeof(SpanEvent))));
      capacity_ = ring_ == nullptr ? 0 : wanted;
    }
  }
  if (capacity_ > 0) ring_[added_ % capacity_] = event;
  ++added_;
}

void Track::rename(std::string name) {
  std::lock_guard lock(mutex_);
  name_ = std::move(name);
}

TrackRecording Track::take(uint64_t session) {
  std::lock_guard lock(mutex_);
  TrackRecording out;
  out.name = name_;
  if (session_ == session) {
    const uint64_t kept = std::min<uint64_t>(added_, capacity_);
    out.dropped = added_ - kept;
    out.spans.reserve(kept);
    for (uint64_t i = added_ - kept; i < added_; ++i) out.spans.push_back(ring_[i % capacity_]);
  }
  ring_.reset();
  capacity_ = 0;
  added_ = 0;
  return out;
}

Track& Track::current() {
  thread_local Track track(fmt::format("thread {}", ::gettid()));
  return track;
}

void name_thread(std::string name) {
  ::pthread_setname_np(::pthread_self(), name.substr(0, 15).c_str());
  Track::current().rename(std::move(name));
}

void Span::end() {
  event_.end_ns = detail::now_ns();
  Track::current().add(event_);
}

}  // namespace bifocal::trace
