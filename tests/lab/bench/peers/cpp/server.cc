// C++ gRPC's examples of helloworld and routeguide: callbacks for what is unary, threads for what streams.

#include <google/protobuf/struct.pb.h>
#include <google/protobuf/util/json_util.h>
#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <fstream>
#include <iostream>
#include <iterator>
#include <string>
#include <unordered_set>
#include <vector>

#include "helloworld.grpc.pb.h"
#include "route_guide.grpc.pb.h"

using grpc::Status;
using helloworld::HelloReply;
using helloworld::HelloRequest;
using routeguide::Feature;
using routeguide::Point;
using routeguide::Rectangle;
using routeguide::RouteSummary;

class Greeter final : public helloworld::Greeter::WithCallbackMethod_SayHello<helloworld::Greeter::Service> {
  grpc::ServerUnaryReactor* SayHello(grpc::CallbackServerContext* context, const HelloRequest* request,
                                     HelloReply* reply) override {
    reply->set_message("Hello " + request->name());
    auto* reactor = context->DefaultReactor();
    reactor->Finish(Status::OK);
    return reactor;
  }
};

uint64_t Key(const Point& point) {
  return uint64_t{static_cast<uint32_t>(point.latitude())} << 32 | static_cast<uint32_t>(point.longitude());
}

// In metres, on great circles.
double Distance(const Point& a, const Point& b) {
  const auto radians = [](int32_t degrees) { return degrees / 1e7 * M_PI / 180; };
  const double lat = std::sin((radians(b.latitude()) - radians(a.latitude())) / 2);
  const double lon = std::sin((radians(b.longitude()) - radians(a.longitude())) / 2);
  const double half = lat * lat + std::cos(radians(a.latitude())) * std::cos(radians(b.latitude())) * lon * lon;
  return 6371000 * 2 * std::atan2(std::sqrt(half), std::sqrt(1 - half));
}

class RouteGuide final : public routeguide::RouteGuide::Service {
 public:
  explicit RouteGuide(const std::string& path) {
    std::ifstream file(path);
    const std::string json{std::istreambuf_iterator<char>(file), {}};
    google::protobuf::ListValue entries;
    if (!google::protobuf::util::JsonStringToMessage(json, &entries).ok()) throw std::runtime_error(path);
    for (const auto& entry : entries.values()) {
      const auto& fields = entry.struct_value().fields();
      const auto& place = fields.at("location").struct_value().fields();
      Feature feature;
      feature.set_name(fields.at("name").string_value());
      feature.mutable_location()->set_latitude(static_cast<int32_t>(place.at("latitude").number_value()));
      feature.mutable_location()->set_longitude(static_cast<int32_t>(place.at("longitude").number_value()));
      // A scan for each point, as in the example, would measure little else.
      places_.insert(Key(feature.location()));
      features_.push_back(std::move(feature));
    }
  }

  Status ListFeatures(grpc::ServerContext*, const Rectangle* area, grpc::ServerWriter<Feature>* writer) override {
    const auto [south, north] = std::minmax({area->lo().latitude(), area->hi().latitude()});
    const auto [west, east] = std::minmax({area->lo().longitude(), area->hi().longitude()});
    for (const Feature& feature : features_) {
      const Point& place = feature.location();
      if (place.latitude() >= south && place.latitude() <= north && place.longitude() >= west &&
          place.longitude() <= east && !writer->Write(feature)) {
        break;
      }
    }
    return Status::OK;
  }

  Status RecordRoute(grpc::ServerContext*, grpc::ServerReader<Point>* reader, RouteSummary* summary) override {
    const auto began = std::chrono::steady_clock::now();
    Point point, last;
    int32_t points = 0, found = 0;
    double metres = 0;
    while (reader->Read(&point)) {
      found += places_.count(Key(point));
      if (points++ > 0) metres += Distance(last, point);
      last = point;
    }
    const auto took = std::chrono::steady_clock::now() - began;
    summary->set_point_count(points);
    summary->set_feature_count(found);
    summary->set_distance(static_cast<int32_t>(metres));
    summary->set_elapsed_time(std::chrono::duration_cast<std::chrono::seconds>(took).count());
    return Status::OK;
  }

 private:
  std::vector<Feature> features_;
  std::unordered_set<uint64_t> places_;
};

int main(int argc, char** argv) {
  std::string listen, features;
  for (int i = 1; i + 1 < argc; i += 2) {
    (std::strcmp(argv[i], "--listen") == 0 ? listen : features) = argv[i + 1];
  }
  Greeter greeter;
  RouteGuide route_guide(features);
  int port = 0;
  grpc::ServerBuilder builder;
  builder.AddListeningPort(listen, grpc::InsecureServerCredentials(), &port);
  builder.RegisterService(&greeter);
  builder.RegisterService(&route_guide);
  const auto server = builder.BuildAndStart();
  std::cout << "listening 127.0.0.1:" << port << std::endl;
  server->Wait();
}
