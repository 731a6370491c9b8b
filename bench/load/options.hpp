// Command-line options.

#pragma once

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

[[noreturn]] inline void fail(const std::string& why) {
  std::fprintf(stderr, "load: %s\n", why.c_str());
  std::exit(2);
}

struct Options {
  int port = 0;
  double rate = 0;
  std::size_t connections = 0;
  double seconds = 1;
  double drain_s = 2;
  std::uint64_t seed = 1;
  double objective_ms = 0;
  std::size_t max_connections = 1024;
  std::string samples;
  std::vector<std::string> requests;
};

inline std::string content_of(const char* file) {
  std::ifstream in(file, std::ios::binary);
  if (!in) fail(std::string("cannot read ") + file);
  return {std::istreambuf_iterator<char>(in), {}};
}

inline Options parse(int count, char** arguments) {
  Options options;
  for (int i = 1; i + 1 < count; i += 2) {
    const std::string name = arguments[i];
    const char* value = arguments[i + 1];
    if (name == "--port") options.port = std::atoi(value);
    else if (name == "--rate") options.rate = std::atof(value);
    else if (name == "--connections") options.connections = std::strtoul(value, nullptr, 10);
    else if (name == "--seconds") options.seconds = std::atof(value);
    else if (name == "--drain") options.drain_s = std::atof(value);
    else if (name == "--seed") options.seed = std::strtoull(value, nullptr, 10);
    else if (name == "--objective-ms") options.objective_ms = std::atof(value);
    else if (name == "--max-connections") options.max_connections = std::strtoul(value, nullptr, 10);
    else if (name == "--samples") options.samples = value;
    else if (name == "--request") options.requests.push_back(content_of(value));
    else fail("no option is called " + name);
  }
  if (count % 2 == 0) fail("each option needs a value");
  if (options.port <= 0 || options.requests.empty()) fail("--port and --request are needed");
  if (options.rate <= 0 && options.connections == 0) fail("--rate or --connections is needed");
  return options;
}
