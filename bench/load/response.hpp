// HTTP/1.1 response, and detection of its end: by its length, or by its chunks.

#pragma once

#include <strings.h>

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <cstring>
#include <string>

// Response that is complete or not, as its bytes arrive.
class Response {
 public:
  enum class State { kIncomplete, kComplete, kBroken };

  void append(const char* bytes, std::size_t count) { text_.append(bytes, count); }
  void clear() { text_.clear(), body_ = 0, length_ = -1, next_chunk_ = 0; }
  const std::string& text() const { return text_; }
  bool empty() const { return text_.empty(); }
  int status() const { return text_.size() < 12 ? 0 : std::atoi(text_.c_str() + 9); }
  bool closes() const { return header("connection") == "close"; }

  State state() {
    if (body_ == 0 && !read_head()) return State::kIncomplete;
    if (next_chunk_ != 0) return chunks();
    if (length_ < 0) return State::kBroken;
    return text_.size() >= body_ + static_cast<std::size_t>(length_) ? State::kComplete : State::kIncomplete;
  }

 private:
  bool read_head() {
    const std::size_t end = text_.find("\r\n\r\n");
    if (end == std::string::npos) return false;
    body_ = end + 4;
    const std::string length = header("content-length");
    if (!length.empty()) length_ = std::atol(length.c_str());
    else if (header("transfer-encoding") == "chunked") next_chunk_ = body_;
    return true;
  }

  State chunks() {
    for (;;) {
      const std::size_t line = text_.find("\r\n", next_chunk_);
      if (line == std::string::npos) return State::kIncomplete;
      const std::size_t size = std::strtoul(text_.c_str() + next_chunk_, nullptr, 16);
      if (text_.size() < line + 2 + size + 2) return State::kIncomplete;
      next_chunk_ = line + 2 + size + 2;
      if (size == 0) return State::kComplete;
    }
  }

  // Returns the value of a header, in lower case; empty if it is missing.
  std::string header(const char* name) const {
    const std::size_t length = std::strlen(name);
    for (std::size_t at = text_.find("\r\n"); at + 2 < body_; at = text_.find("\r\n", at + 2)) {
      const char* line = text_.c_str() + at + 2;
      if (strncasecmp(line, name, length) != 0 || line[length] != ':') continue;
      const std::size_t from = text_.find_first_not_of(' ', at + 2 + length + 1);
      std::string value = text_.substr(from, text_.find("\r\n", from) - from);
      std::transform(value.begin(), value.end(), value.begin(), [](unsigned char c) { return std::tolower(c); });
      return value;
    }
    return {};
  }

  std::string text_;
  std::size_t body_ = 0;
  long length_ = -1;
  std::size_t next_chunk_ = 0;
};
