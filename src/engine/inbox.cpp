#include "engine/inbox.h"

#include <fmt/format.h>

#include <utility>

namespace bifocal::engine {

Status Inbox::push(std::unique_ptr<LiveRequest> request) {
  {
    std::lock_guard lock(mutex_);
    if (!closed_.ok()) return closed_;
    if (draining_) return unavailable("the server is shutting down");
    const int choices = request->request.sampling.n;
    const int queued = mail_choices_ + waiting_choices_;
    if (queued + choices > max_queued_) {
      return resource_exhausted(
          fmt::format("the queue is full: {} of {} places are taken", queued, max_queued_));
    }
    const auto [it, inserted] = live_.try_emplace(request->request.id, next_key_);
    if (!inserted) return invalid_argument("a request with this id is under way");
    request->key = next_key_++;
    mail_choices_ += choices;
    mail_.requests.push_back(std::move(request));
  }
  arrived_.notify_one();
  return {};
}

bool Inbox::abort(const std::string& id) {
  {
    std::lock_guard lock(mutex_);
    const auto it = live_.find(id);
    if (it == live_.end()) return false;
    mail_.aborts.push_back(it->second);
  }
  arrived_.notify_one();
  return true;
}

void Inbox::abort_all() {
  {
    std::lock_guard lock(mutex_);
    for (const auto& [id, key] : live_) mail_.aborts.push_back(key);
  }
  arrived_.notify_one();
}

Status Inbox::flush() {
  std::future<Status> answer;
  {
    std::lock_guard lock(mutex_);
    if (!closed_.ok()) return closed_;
    if (!live_.empty()) {
      return resource_exhausted(
          fmt::format("{} requests are running or queued; the cache can't be flushed", live_.size()));
    }
    answer = mail_.flushes.emplace_back().get_future();
  }
  arrived_.notify_one();
  return answer.get();
}

void Inbox::begin_drain() {
  std::lock_guard lock(mutex_);
  draining_ = true;
}

void Inbox::stop() {
  {
    std::lock_guard lock(mutex_);
    mail_.stop = true;
  }
  arrived_.notify_one();
}

bool Inbox::idle() const {
  std::lock_guard lock(mutex_);
  return live_.empty();
}

bool Inbox::has_mail() const {
  return mail_.stop || !mail_.requests.empty() || !mail_.aborts.empty() || !mail_.flushes.empty();
}

Mail Inbox::take(std::chrono::milliseconds wait) {
  std::unique_lock lock(mutex_);
  arrived_.wait_for(lock, wait, [this] { return has_mail(); });
  waiting_choices_ += std::exchange(mail_choices_, 0);
  Mail mail = std::exchange(mail_, {});
  mail_.stop = mail.stop;
  return mail;
}

void Inbox::set_waiting(int choices) {
  std::lock_guard lock(mutex_);
  waiting_choices_ = choices;
}

void Inbox::forget(const std::string& id) {
  std::lock_guard lock(mutex_);
  live_.erase(id);
}

Mail Inbox::close(Status why) {
  std::lock_guard lock(mutex_);
  closed_ = std::move(why);
  mail_choices_ = 0;
  return std::exchange(mail_, {});
}

}  // namespace bifocal::engine
