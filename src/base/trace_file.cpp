#include "base/trace_file.h"

#include <fmt/format.h>
#include <zlib.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <map>
#include <utility>

#include "base/json.h"

namespace bifocal::trace {
namespace {

constexpr int kPid = 1;
constexpr size_t kChunkBytes = size_t{1} << 18;

// zlib writes plain files, too.
class Output {
 public:
  Output(const std::string& path, bool compressed)
      : file_(::gzopen(path.c_str(), compressed ? "wb6" : "wbT")) {}
  ~Output() { close(); }
  Output(const Output&) = delete;
  Output& operator=(const Output&) = delete;

  bool is_open() const { return file_ != nullptr; }
  void write(std::string_view text) {
    pending_ += text;
    if (pending_.size() >= kChunkBytes) flush();
  }
  // False when anything failed.
  bool close() {
    if (file_ == nullptr) return ok_;
    flush();
    ok_ = ::gzclose(std::exchange(file_, nullptr)) == Z_OK && ok_;
    return ok_;
  }

 private:
  void flush() {
    const auto size = static_cast<unsigned>(pending_.size());
    if (size > 0 && ::gzwrite(file_, pending_.data(), size) != static_cast<int>(size)) ok_ = false;
    pending_.clear();
  }
  gzFile file_;
  std::string pending_;
  bool ok_ = true;
};

class Writer {
 public:
  Writer(const Recording& recording, Output& output) : recording_(recording), output_(output) {}

  void write() {
    output_.write(R"({"displayTimeUnit":"ms","otherData":)");
    output_.write(other_data());
    output_.write(",\"traceEvents\":[\n");
    name_row("process_name", 0, "bifocal");
    name_row("thread_name", 0, "requests");
    for (size_t t = 0; t < recording_.tracks.size(); ++t) write_track(recording_.tracks[t], t + 1);
    write_async_events();
    output_.write("\n]}\n");
  }

 private:
  std::string other_data() const {
    uint64_t dropped = 0;
    JsonWriter by_thread;
    by_thread.begin_object();
    for (const TrackRecording& track : recording_.tracks) {
      dropped += track.dropped;
      if (track.dropped > 0) by_thread.member(track.name, track.dropped);
    }
    by_thread.end_object();
    JsonWriter json;
    json.begin_object().member("version", BIFOCAL_VERSION).member("steps", recording_.num_steps);
    json.member("steps_without_detail", recording_.num_steps_without_detail);
    json.member("steps_without_gpu", recording_.num_steps_without_sources);
    json.member("dropped_spans", dropped).key("dropped_spans_by_thread").raw(by_thread.text());
    json.member("dropped_request_events", recording_.dropped_async_events);
    json.key("notes").begin_array();
    for (const std::string& note : recording_.notes) json.value(note);
    json.end_array().end_object();
    return json.take();
  }

  void separate() { output_.write(std::exchange(first_, false) ? "" : ",\n"); }

  void name_row(std::string_view what, size_t row, std::string_view name) {
    JsonWriter json;
    json.begin_object().member("ph", "M").member("pid", kPid).member("tid", static_cast<uint64_t>(row));
    json.member("name", what).key("args").begin_object().member("name", name).end_object().end_object();
    separate();
    output_.write(json.text());
  }

  // The format counts in microseconds from anywhere.
  std::string microseconds(int64_t ns) const { return fmt::format("{}.{:03}", ns / 1000, ns % 1000); }
  std::string since_start(int64_t ns) const {
    return microseconds(std::max<int64_t>(0, ns - recording_.start_ns));
  }

  static std::string args(const KindInfo& kind, const Values& values) {
    std::string out = "{";
    for (size_t i = 0; i < kind.values.size(); ++i) {
      if (kind.values[i].empty()) continue;
      fmt::format_to(std::back_inserter(out), "{}\"{}\":{}", out.size() > 1 ? "," : "", kind.values[i],
                     values[i]);
    }
    return out + "}";
  }

  void write_track(const TrackRecording& track, size_t row) {
    name_row("thread_name", row, track.name);
    for (const SpanEvent& span : track.spans) {
      const KindInfo& kind = kind_info(span.kind);
      separate();
      std::string name;
      append_json_string(name, span.name);
      output_.write(
          fmt::format(R"({{"ph":"X","pid":{},"tid":{},"ts":{},"dur":{},"cat":"{}","name":{},"args":{}}})",
                      kPid, row, since_start(span.start_ns), microseconds(span.end_ns - span.start_ns),
                      kind.category, name, args(kind, span.values)));
    }
  }

  void write_async_events() {
    std::map<std::pair<std::string, std::string_view>, const AsyncEvent*> open;
    for (const AsyncEvent& event : recording_.async_events) {
      const auto key = std::pair(event.id, event.name);
      if (event.begins) {
        open[key] = &event;
        continue;
      }
      const auto begun = open.find(key);
      if (begun == open.end()) {
        write_pair(event, recording_.start_ns, event.time_ns);
      } else {
        write_pair(*begun->second, begun->second->time_ns, event.time_ns);
        open.erase(begun);
      }
    }
    for (const auto& [key, event] : open) write_pair(*event, event->time_ns, recording_.end_ns);
  }

  void write_pair(const AsyncEvent& event, int64_t start_ns, int64_t end_ns) {
    const KindInfo& kind = kind_info(event.kind);
    std::string name;
    append_json_string(name, event.name);
    std::string id;
    append_json_string(id, event.id);
    const std::pair<char, int64_t> ends[] = {{'b', start_ns}, {'e', std::max(start_ns, end_ns)}};
    for (const auto& [letter, time_ns] : ends) {
      separate();
      output_.write(
          fmt::format(R"({{"ph":"{}","pid":{},"tid":0,"ts":{},"cat":"{}","id":{},"name":{},"args":{}}})",
                      letter, kPid, since_start(time_ns), kind.category, id, name, args(kind, event.values)));
    }
  }

  const Recording& recording_;
  Output& output_;
  bool first_ = true;
};

}  // namespace

Status write_file(const Recording& recording, const std::string& path) {
  const std::string temporary = path + ".tmp";
  Output output(temporary, path.ends_with(".gz"));
  if (!output.is_open()) {
    return invalid_argument(fmt::format("can't write a profile to {}: {}", path, std::strerror(errno)));
  }
  Writer(recording, output).write();
  if (!output.close() || std::rename(temporary.c_str(), path.c_str()) != 0) {
    const int error = errno;
    std::remove(temporary.c_str());
    return invalid_argument(fmt::format("can't write a profile to {}: {}", path, std::strerror(error)));
  }
  return {};
}

}  // namespace bifocal::trace
