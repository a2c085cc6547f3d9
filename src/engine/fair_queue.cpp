#include "engine/fair_queue.h"

#include <algorithm>
#include <utility>

#include "base/check.h"

namespace bifocal::engine {

void FairQueue::push(std::unique_ptr<Sequence> sequence) {
  const auto least = next();
  const int64_t floor = least == classes_.end() ? last_served_ : least->second.service;
  Class& target = classes_[sequence->cache_namespace];
  if (target.waiting.empty()) target.service = std::max(target.service, floor);
  num_slots_ += sequence->num_slots();
  ++size_;
  const SequenceKey key = sequence->key;
  const bool inserted = target.waiting.emplace(key, std::move(sequence)).second;
  BIFOCAL_CHECK(inserted);
}

FairQueue::Classes::const_iterator FairQueue::next() const {
  auto best = classes_.end();
  for (auto it = classes_.begin(); it != classes_.end(); ++it) {
    if (it->second.waiting.empty()) continue;
    if (best == classes_.end() || std::pair(it->second.service, it->second.waiting.begin()->first) <
                                      std::pair(best->second.service, best->second.waiting.begin()->first)) {
      best = it;
    }
  }
  return best;
}

Sequence* FairQueue::front() const {
  const auto it = next();
  return it == classes_.end() ? nullptr : it->second.waiting.begin()->second.get();
}

std::unique_ptr<Sequence> FairQueue::pop_front() {
  const auto it = next();
  BIFOCAL_CHECK(it != classes_.end());
  Class& from = classes_.at(it->first);
  std::unique_ptr<Sequence> sequence = std::move(from.waiting.begin()->second);
  from.waiting.erase(from.waiting.begin());
  last_served_ = from.service;
  ++from.running;
  num_slots_ -= sequence->num_slots();
  --size_;
  return sequence;
}

std::vector<std::unique_ptr<Sequence>> FairQueue::remove(RequestKey request) {
  std::vector<std::unique_ptr<Sequence>> removed;
  for (auto& [id, from] : classes_) {
    auto it = from.waiting.lower_bound({request, 0});
    while (it != from.waiting.end() && it->first.request == request) {
      num_slots_ -= it->second->num_slots();
      --size_;
      removed.push_back(std::move(it->second));
      it = from.waiting.erase(it);
    }
  }
  for (const auto& sequence : removed) drop_if_unused(sequence->cache_namespace);
  return removed;
}

int64_t FairQueue::service(uint64_t cache_namespace) const {
  const auto it = classes_.find(cache_namespace);
  return it == classes_.end() ? 0 : it->second.service;
}

void FairQueue::charge(uint64_t cache_namespace, int64_t weighted_tokens) {
  const auto it = classes_.find(cache_namespace);
  BIFOCAL_CHECK(it != classes_.end());
  it->second.service += weighted_tokens;
}

void FairQueue::leave(uint64_t cache_namespace) {
  Class& from = classes_.at(cache_namespace);
  BIFOCAL_CHECK_GT(from.running, 0);
  --from.running;
  drop_if_unused(cache_namespace);
}

void FairQueue::drop_if_unused(uint64_t cache_namespace) {
  const auto it = classes_.find(cache_namespace);
  if (it != classes_.end() && it->second.running == 0 && it->second.waiting.empty()) classes_.erase(it);
}

}  // namespace bifocal::engine
