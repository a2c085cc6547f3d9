#include "server/live_requests.h"

#include <unordered_set>

namespace bifocal::server {

bool LiveRequests::add(const std::vector<LiveName>& names, int client,
                       const std::shared_ptr<Generation>& generation) {
  std::lock_guard lock(mutex_);
  for (size_t i = 0; i < names.size(); ++i) {
    if (entries_.try_emplace(names[i].id, Entry{client, names[i].prompt, generation}).second) continue;
    for (size_t k = 0; k < i; ++k) entries_.erase(names[k].id);
    return false;
  }
  return true;
}

void LiveRequests::remove(const std::vector<LiveName>& names) {
  std::vector<Entry> removed;  // may hold the last reference: destroyed after the lock
  std::lock_guard lock(mutex_);
  for (const LiveName& name : names) {
    const auto it = entries_.find(name.id);
    if (it == entries_.end()) continue;
    removed.push_back(std::move(it->second));
    entries_.erase(it);
  }
}

LiveRequests::Found LiveRequests::find(const std::string& id, int client) const {
  std::lock_guard lock(mutex_);
  const auto it = entries_.find(id);
  if (it == entries_.end() || it->second.client != client) return {};
  return {it->second.generation, it->second.prompt};
}

std::vector<std::shared_ptr<Generation>> LiveRequests::all(int client) const {
  std::lock_guard lock(mutex_);
  std::unordered_set<std::shared_ptr<Generation>> found;
  for (const auto& [id, entry] : entries_) {
    if (client == kEveryone || entry.client == client) found.insert(entry.generation);
  }
  return {found.begin(), found.end()};
}

bool LiveRequests::empty() const {
  std::lock_guard lock(mutex_);
  return entries_.empty();
}

}  // namespace bifocal::server
