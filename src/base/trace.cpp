#include "base/trace.h"

#include <fmt/format.h>
#include <linux/membarrier.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <utility>

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
    {"kernel", {"step", "blocks", "threads", "shared_bytes"}},
    {"copy", {"step", "bytes", "", ""}},
};

// Tracks that ended during a recording, whose spans it keeps.
constexpr size_t kMaxEndedTracks = 256;

// A thread says that it adds to its track, then looks whether a recording is on; stop() turns the recording
// off, then looks whether the thread is adding. Each side's store must be seen before its load, which takes a
// full barrier on both sides, or a compiler's on the side that runs a million times a second and
// membarrier(2) on the other.
long membarrier(int command) {
  return ::syscall(SYS_membarrier, command, 0U, 0);
}
const bool kHasMembarrier = membarrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED) == 0;

void barrier_of_adding() {
  if (kHasMembarrier) {
    std::atomic_signal_fence(std::memory_order_seq_cst);
  } else {
    std::atomic_thread_fence(std::memory_order_seq_cst);
  }
}
void barrier_of_stopping() {
  if (kHasMembarrier) {
    membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED);
  } else {
    std::atomic_thread_fence(std::memory_order_seq_cst);
  }
}

}  // namespace

const KindInfo& kind_info(Kind kind) {
  return kKinds[static_cast<size_t>(kind)];
}

// The recording under way.
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
    sources_record_ = true;
    session.fetch_add(1);
    max_spans.store(std::max<size_t>(1, options.max_spans));
    for (Source* source : sources_) start_source(*source);
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
    barrier_of_stopping();
    for (Track* track : tracks_) {
      while (track->is_adding_.load(std::memory_order_acquire)) std::this_thread::yield();
      keep(*track);
    }
    for (Track::Taken& track : taken_) recording_.tracks.push_back(recorded(std::move(track)));
    for (Source* source : started_) source->stop(recording_);
    taken_.clear();
    started_.clear();
    return std::exchange(recording_, {});
  }

  void add_source(Source& source) {
    std::lock_guard lock(mutex_);
    sources_.push_back(&source);
    if (active_ && !finished_) start_source(source);
  }

  bool wait_until_finished(std::stop_token token) {
    std::unique_lock lock(mutex_);
    const uint64_t waited_for = session.load();
    changed_.wait(lock, std::move(token),
                  [&] { return finished_ || !active_ || session.load() != waited_for; });
    return finished_ && active_ && session.load() == waited_for;
  }

  detail::StepState step_begins(uint64_t number, int64_t rows) {
    std::lock_guard lock(mutex_);
    if (active_ && !finished_ && detail::state.load() == detail::waiting && number >= options_.first_step) {
      begin();
    }
    if (detail::state.load() != detail::on) return {};
    thin_sources();
    const int64_t expected_ns = last_row_ns_ * std::max<int64_t>(1, rows);
    const bool mutes = expected_ns < options_.short_step_ns && recording_.num_steps % kDetailEvery != 0;
    return {session.load(), mutes, std::max<int64_t>(1, rows), detail::now_ns()};
  }

  void step_ends(const detail::StepState& step) {
    std::lock_guard lock(mutex_);
    if (detail::state.load() != detail::on || step.session != session.load()) return;
    last_row_ns_ = (detail::now_ns() - step.start_ns) / step.rows;
    ++recording_.num_steps;
    if (step.mutes) ++recording_.num_steps_without_detail;
    if (!sources_record_ && !started_.empty()) ++recording_.num_steps_without_sources;
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
    if (active_ && taken_.size() < kMaxEndedTracks) keep(track);
  }

  void rename(Track& track, std::string name) {
    std::lock_guard lock(mutex_);
    track.name_ = std::move(name);
  }

  // What Track::add reads without the lock.
  std::atomic<uint64_t> session{0};
  std::atomic<int64_t> start_ticks{0};
  std::atomic<size_t> max_spans{1};

 private:
  void begin() {
    start_ = ClockPoint::now();
    recording_.start_ns = start_.ns;
    start_ticks.store(start_.ticks);
    detail::state.store(detail::on, std::memory_order_release);
  }
  void end() {
    if (detail::state.exchange(detail::off) != detail::on) return;
    end_ = ClockPoint::now();
    recording_.end_ns = end_.ns;
  }
  void start_source(Source& source) {
    if (!options_.with_sources) return;
    const Status status = source.start(max_spans.load());
    if (status.ok()) {
      started_.push_back(&source);
    } else {
      recording_.notes.push_back(status.message());
    }
  }
  // Before a step.
  void thin_sources() {
    const uint64_t period = options_.source_period;
    if (period == 0 || (options_.num_steps > 0 && options_.num_steps <= period)) return;
    const bool record = recording_.num_steps % period < kSourceSteps;
    if (std::exchange(sources_record_, record) == record) return;
    for (Source* source : started_) {
      const Status status = source->set_recording(record);
      if (!status.ok()) recording_.notes.push_back(status.message());
    }
  }
  void keep(Track& track) {
    Track::Taken taken = track.take(session.load());
    if (!taken.entries.empty() || taken.dropped > 0) taken_.push_back(std::move(taken));
  }
  TrackRecording recorded(Track::Taken taken) const {
    TrackRecording out{std::move(taken.name), {}, taken.dropped};
    out.spans.reserve(taken.entries.size());
    const auto ns = [&](int64_t at) { return std::min(to_ns(at, start_, end_), end_.ns); };
    for (const Track::Entry& entry : taken.entries) {
      out.spans.push_back({entry.name, ns(entry.start_ticks), ns(entry.end_ticks), entry.values, entry.kind});
    }
    return out;
  }

  std::mutex mutex_;
  std::condition_variable_any changed_;
  std::vector<Track*> tracks_;
  std::vector<Source*> sources_;
  std::vector<Source*> started_;
  std::vector<Track::Taken> taken_;
  ClockPoint start_, end_;
  bool active_ = false;    // start() to stop()
  bool finished_ = false;  // by num_steps
  Options options_;
  Recording recording_;
  int64_t last_row_ns_ = 0;
  bool sources_record_ = true;
};

Status start(const Options& options) {
  return Recorder::instance().start(options);
}
Expected<Recording> stop() {
  return Recorder::instance().stop();
}
void add_source(Source& source) {
  Recorder::instance().add_source(source);
}
bool wait_until_finished(std::stop_token token) {
  return Recorder::instance().wait_until_finished(std::move(token));
}

namespace detail {

StepState step_begins(uint64_t number, int64_t rows) {
  return Recorder::instance().step_begins(number, rows);
}
void step_ends(const StepState& step) {
  Recorder::instance().step_ends(step);
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

void Track::add(const Entry& entry) {
  is_adding_.store(true, std::memory_order_relaxed);
  barrier_of_adding();
  if (detail::state.load(std::memory_order_acquire) == detail::on) add_to_ring(entry);
  is_adding_.store(false, std::memory_order_release);
}

void Track::add_to_ring(const Entry& entry) {
  Recorder& recorder = Recorder::instance();
  if (entry.start_ticks < recorder.start_ticks.load(std::memory_order_relaxed)) return;
  const uint64_t session = recorder.session.load(std::memory_order_relaxed);
  if (session_ != session) {
    session_ = session;
    added_ = next_ = 0;
    const size_t wanted = recorder.max_spans.load(std::memory_order_relaxed);
    ring_ = allocate(wanted);
    capacity_ = ring_ == nullptr ? 0 : wanted;
  }
  ++added_;
  if (capacity_ == 0) return;
  ring_[next_] = entry;
  if (++next_ == capacity_) next_ = 0;
}

// Memory that is not touched costs nothing, so nothing is written to it here. In large pages where the system
// has them: a fault costs as much as twenty spans, and a small page holds some fifty.
Track::Ring Track::allocate(size_t capacity) {
  constexpr size_t kLargePageBytes = size_t{1} << 21;
  constexpr size_t kCacheLineBytes = 64;
  const size_t bytes = capacity * sizeof(Entry);
  const size_t alignment = bytes >= kLargePageBytes ? kLargePageBytes : kCacheLineBytes;
  const size_t rounded = (bytes + alignment - 1) / alignment * alignment;
  void* ring = std::aligned_alloc(alignment, rounded);
  if (ring != nullptr && alignment == kLargePageBytes) ::madvise(ring, rounded, MADV_HUGEPAGE);
  return Ring(static_cast<Entry*>(ring));
}

void Track::rename(std::string name) {
  Recorder::instance().rename(*this, std::move(name));
}

Track::Taken Track::take(uint64_t session) {
  Taken out;
  out.name = name_;
  if (session_ == session) {
    const uint64_t kept = std::min<uint64_t>(added_, capacity_);
    out.dropped = added_ - kept;
    out.entries.reserve(kept);
    for (uint64_t i = added_ - kept; i < added_; ++i) out.entries.push_back(ring_[i % capacity_]);
  }
  ring_.reset();
  capacity_ = 0;
  added_ = next_ = 0;
  session_ = 0;
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
  entry_.end_ticks = ticks();
  Track::current().add(entry_);
}

}  // namespace bifocal::trace
