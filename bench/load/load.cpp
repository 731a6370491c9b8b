// HTTP/1.1 load generator for one server of this machine, open or closed loop, single-threaded; prints JSON.
//
//   load --port P --request FILE... [--rate R] [--connections N] --seconds S [--seed K] [--objective-ms M]
//        [--drain S] [--max-connections N] [--samples FILE]
//
// Open loop (`--rate`): requests are due at the times of a Poisson process, drawn from the seed, regardless of late
// answers. A latency counts from the due time, so waiting for a connection, or for this program, is included.
// Closed loop (no rate): each connection sends its next request as soon as it gets an answer.
// A request file holds a whole request, head and body; each send draws one at random. Connections are kept alive and
// used in turn, so that all processes of a server get the same share; an open loop opens more if all are busy.
// Some answers, sampled evenly over the run, are kept for the caller to check.

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <deque>
#include <fstream>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "options.hpp"
#include "response.hpp"

namespace {

constexpr std::int64_t kSecond = 1'000'000'000;
constexpr int kEvents = 256;
constexpr std::size_t kReadBytes = 1 << 16;
constexpr std::size_t kSamples = 32;

std::int64_t now_ns() {
  timespec at{};
  clock_gettime(CLOCK_MONOTONIC, &at);
  return at.tv_sec * kSecond + at.tv_nsec;
}

double cpu_s() {
  rusage used{};
  getrusage(RUSAGE_SELF, &used);
  auto seconds = [](const timeval& t) { return static_cast<double>(t.tv_sec) + 1e-6 * static_cast<double>(t.tv_usec); };
  return seconds(used.ru_utime) + seconds(used.ru_stime);
}

struct Pending {
  std::int64_t due_ns = 0;
  std::size_t kind = 0;
};

struct Connection {
  int file = -1;
  bool busy = false;
  std::size_t unsent = 0;  // bytes of the request that are not written to the socket yet
  Pending pending;
  Response response;
};

struct Tally {
  std::uint64_t sent = 0, answered = 0, in_time = 0;
};

class Load {
 public:
  explicit Load(const Options& options)
      : options_(options), draws_(options.seed), sampling_(options.seed), kinds_(options.requests.size()), poll_(epoll_create1(0)) {}

  void run() {
    begin_ns_ = now_ns();
    end_ns_ = begin_ns_ + static_cast<std::int64_t>(options_.seconds * 1e9);
    const std::int64_t give_up_ns = end_ns_ + static_cast<std::int64_t>(options_.drain_s * 1e9);
    next_due_ns_ = open_loop() ? begin_ns_ + gap_ns() : end_ns_;
    for (std::size_t i = 0; i < options_.connections; ++i) open();
    while (!open_loop() && !idle_.empty()) start(drawn(now_ns()));
    for (;;) {
      const std::int64_t now = now_ns();
      while (next_due_ns_ <= now && next_due_ns_ < end_ns_) {
        start(drawn(next_due_ns_));
        next_due_ns_ += gap_ns();
      }
      const bool sending = now < end_ns_ && (open_loop() || in_flight_ > 0);
      if (now >= give_up_ns || (!sending && in_flight_ == 0 && waiting_.empty())) break;
      wait(std::min(sending ? std::min(next_due_ns_, end_ns_) : give_up_ns, give_up_ns) - now);
    }
    elapsed_s_ = static_cast<double>(now_ns() - begin_ns_) / 1e9;
  }

  void print() {
    std::sort(latencies_ms_.begin(), latencies_ms_.end());
    std::sort(lags_ms_.begin(), lags_ms_.end());
    Tally all;
    std::string kinds;
    for (const Tally& kind : kinds_) {
      all.sent += kind.sent, all.answered += kind.answered, all.in_time += kind.in_time;
      char line[128];
      std::snprintf(line, sizeof line, "%s{\"sent\":%lu,\"answered\":%lu,\"in_time\":%lu}", kinds.empty() ? "" : ",",
                    kind.sent, kind.answered, kind.in_time);
      kinds += line;
    }
    std::string statuses;
    for (const auto& [status, count] : statuses_)
      statuses += (statuses.empty() ? "\"" : ",\"") + std::to_string(status) + "\":" + std::to_string(count);
    std::printf(
        "{\"sent\":%lu,\"answered\":%lu,\"in_time\":%lu,\"statuses\":{%s},\"broken\":%lu,\"unanswered\":%lu,"
        "\"p50_ms\":%.4f,\"p90_ms\":%.4f,\"p99_ms\":%.4f,\"max_ms\":%.4f,\"elapsed_s\":%.4f,\"cpu_s\":%.4f,"
        "\"lag_p99_ms\":%.4f,\"connections\":%lu,\"kinds\":[%s]}\n",
        all.sent, all.answered, all.in_time, statuses.c_str(), broken_, in_flight_ + waiting_.size(),
        at(latencies_ms_, 0.5), at(latencies_ms_, 0.9), at(latencies_ms_, 0.99), at(latencies_ms_, 1.0), elapsed_s_,
        cpu_s(), at(lags_ms_, 0.99), connections_.size(), kinds.c_str());
    if (!options_.samples.empty()) write_samples();
  }

 private:
  bool open_loop() const { return options_.rate > 0; }
  std::int64_t gap_ns() { return static_cast<std::int64_t>(1e9 * std::exponential_distribution<>(options_.rate)(draws_)); }
  Pending drawn(std::int64_t due_ns) { return {due_ns, draws_() % options_.requests.size()}; }

  static double at(const std::vector<float>& ranked, double share) {
    if (ranked.empty()) return 0;
    return ranked[std::min(static_cast<std::size_t>(share * static_cast<double>(ranked.size())), ranked.size() - 1)];
  }

  void start(const Pending& pending) {
    ++kinds_[pending.kind].sent;
    if (idle_.empty() && connections_.size() < options_.max_connections) open();
    if (idle_.empty()) {
      waiting_.push_back(pending);
      return;
    }
    Connection* connection = idle_.front();
    idle_.pop_front();
    if (open_loop()) lags_ms_.push_back(static_cast<float>(now_ns() - pending.due_ns) / 1e6f);
    send(*connection, pending);
  }

  void open() {
    connections_.push_back(std::make_unique<Connection>());
    connect(*connections_.back());
    idle_.push_back(connections_.back().get());
  }

  void connect(Connection& connection) {
    connection.file = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (connection.file < 0) fail(std::string("cannot open a socket: ") + std::strerror(errno));
    const int yes = 1;
    setsockopt(connection.file, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<std::uint16_t>(options_.port));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (::connect(connection.file, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0 && errno != EINPROGRESS)
      fail(std::string("cannot connect: ") + std::strerror(errno));
    epoll_event event{};
    event.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET;
    event.data.ptr = &connection;
    epoll_ctl(poll_, EPOLL_CTL_ADD, connection.file, &event);
  }

  void send(Connection& connection, const Pending& pending) {
    if (connection.file < 0) connect(connection);
    connection.pending = pending;
    connection.busy = true;
    connection.unsent = options_.requests[pending.kind].size();
    ++in_flight_;
    flush(connection);
  }

  void flush(Connection& connection) {
    const std::string& request = options_.requests[connection.pending.kind];
    while (connection.unsent > 0) {
      const char* from = request.data() + request.size() - connection.unsent;
      const ssize_t count = ::send(connection.file, from, connection.unsent, MSG_NOSIGNAL);
      if (count < 0) return;  // not connected yet, full, or broken: a later poll event tells
      connection.unsent -= static_cast<std::size_t>(count);
    }
  }

  void wait(std::int64_t for_ns) {
    epoll_event events[kEvents];
    for_ns = std::max<std::int64_t>(for_ns, 0);
    const timespec timeout{for_ns / kSecond, for_ns % kSecond};
    const int count = epoll_pwait2(poll_, events, kEvents, &timeout, nullptr);
    for (int i = 0; i < count; ++i) ready(*static_cast<Connection*>(events[i].data.ptr), (events[i].events & EPOLLRDHUP) != 0);
  }

  void ready(Connection& connection, bool ends) {
    if (connection.file < 0) return;
    flush(connection);
    for (;;) {
      const ssize_t count = recv(connection.file, buffer_, sizeof buffer_, 0);
      if (count < 0 && (errno == EAGAIN || errno == EINTR || errno == ENOTCONN)) return;
      if (count <= 0) return lost(connection);
      connection.response.append(buffer_, static_cast<std::size_t>(count));
      const Response::State state = connection.busy ? connection.response.state() : Response::State::kBroken;
      if (state == Response::State::kBroken) return lost(connection);
      if (state == Response::State::kComplete) {
        answered(connection, ends);
        return;  // later bytes answer the next request, which `answered` may have sent: poll again
      }
    }
  }

  void answered(Connection& connection, bool ends) {
    const int status = connection.response.status();
    const double latency_ms = static_cast<double>(now_ns() - connection.pending.due_ns) / 1e6;
    ++statuses_[status];
    if (status == 200) {
      Tally& kind = kinds_[connection.pending.kind];
      ++kind.answered;
      kind.in_time += options_.objective_ms == 0 || latency_ms <= options_.objective_ms;
      latencies_ms_.push_back(static_cast<float>(latency_ms));
      keep_sample(connection);
    }
    if (ends || connection.response.closes()) close(connection);
    released(connection);
  }

  void lost(Connection& connection) {
    const bool was_busy = connection.busy;
    close(connection);
    if (!was_busy) return;  // an idle connection ended: the next request opens another
    ++broken_;
    released(connection);
  }

  void close(Connection& connection) {
    ::close(connection.file);
    connection.file = -1;
  }

  void released(Connection& connection) {
    connection.response.clear();
    connection.busy = false;
    --in_flight_;
    if (!open_loop()) {
      if (const std::int64_t now = now_ns(); now < end_ns_) {
        const Pending next = drawn(now);
        ++kinds_[next.kind].sent;
        return send(connection, next);
      }
    } else if (!waiting_.empty()) {
      const Pending next = waiting_.front();
      waiting_.pop_front();
      return send(connection, next);
    }
    idle_.push_back(&connection);
  }

  // Reservoir sampling: each answer so far is kept with the same probability.
  void keep_sample(const Connection& connection) {
    const std::size_t seen = latencies_ms_.size();
    const std::size_t place = seen <= kSamples ? seen - 1 : sampling_() % seen;
    if (place >= kSamples) return;
    if (place >= samples_.size()) samples_.resize(place + 1);
    samples_[place] = {connection.pending.kind, connection.response.text()};
  }

  void write_samples() const {
    std::ofstream out(options_.samples, std::ios::binary);
    for (const auto& [kind, text] : samples_) out << kind << ' ' << text.size() << '\n' << text;
    if (!out.flush()) fail("cannot write " + options_.samples);
  }

  const Options& options_;
  std::mt19937_64 draws_, sampling_;  // separate, so that the requests do not depend on the order of answers
  std::vector<Tally> kinds_;
  int poll_;
  std::vector<std::unique_ptr<Connection>> connections_;
  std::deque<Connection*> idle_;
  std::deque<Pending> waiting_;  // at most the requests of the run
  std::map<int, std::uint64_t> statuses_;
  std::vector<float> latencies_ms_, lags_ms_;
  std::vector<std::pair<std::size_t, std::string>> samples_;
  std::uint64_t in_flight_ = 0, broken_ = 0;
  std::int64_t begin_ns_ = 0, end_ns_ = 0, next_due_ns_ = 0;
  double elapsed_s_ = 0;
  char buffer_[kReadBytes];
};

}  // namespace

int main(int count, char** arguments) {
  const Options options = parse(count, arguments);
  Load load(options);
  load.run();
  load.print();
}
