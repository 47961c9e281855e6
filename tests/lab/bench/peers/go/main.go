// grpc-go's examples of helloworld and routeguide.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log"
	"math"
	"net"
	"os"
	"time"

	"google.golang.org/grpc"

	"peer/helloworld"
	"peer/routeguide"
)

type greeter struct {
	helloworld.UnimplementedGreeterServer
}

func (*greeter) SayHello(_ context.Context, request *helloworld.HelloRequest) (*helloworld.HelloReply, error) {
	return &helloworld.HelloReply{Message: "Hello " + request.GetName()}, nil
}

type place struct{ latitude, longitude int32 }

func placeOf(point *routeguide.Point) place {
	return place{point.GetLatitude(), point.GetLongitude()}
}

type routeGuide struct {
	routeguide.UnimplementedRouteGuideServer
	features []*routeguide.Feature
	// A scan for each point, as in the example, would measure little else.
	places map[place]bool
}

func (s *routeGuide) ListFeatures(area *routeguide.Rectangle, stream routeguide.RouteGuide_ListFeaturesServer) error {
	a, b := placeOf(area.GetLo()), placeOf(area.GetHi())
	for _, feature := range s.features {
		p := placeOf(feature.GetLocation())
		if p.latitude >= min(a.latitude, b.latitude) && p.latitude <= max(a.latitude, b.latitude) &&
			p.longitude >= min(a.longitude, b.longitude) && p.longitude <= max(a.longitude, b.longitude) {
			if err := stream.Send(feature); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *routeGuide) RecordRoute(stream routeguide.RouteGuide_RecordRouteServer) error {
	began := time.Now()
	var summary routeguide.RouteSummary
	var metres float64
	var last *routeguide.Point
	for {
		point, err := stream.Recv()
		if err == io.EOF {
			summary.Distance = int32(metres)
			summary.ElapsedTime = int32(time.Since(began).Seconds())
			return stream.SendAndClose(&summary)
		}
		if err != nil {
			return err
		}
		summary.PointCount++
		if s.places[placeOf(point)] {
			summary.FeatureCount++
		}
		if last != nil {
			metres += distance(last, point)
		}
		last = point
	}
}

// In metres, on great circles.
func distance(a, b *routeguide.Point) float64 {
	radians := func(degrees int32) float64 { return float64(degrees) / 1e7 * math.Pi / 180 }
	lat := math.Sin((radians(b.Latitude) - radians(a.Latitude)) / 2)
	lon := math.Sin((radians(b.Longitude) - radians(a.Longitude)) / 2)
	half := lat*lat + math.Cos(radians(a.Latitude))*math.Cos(radians(b.Latitude))*lon*lon
	return 6371000 * 2 * math.Atan2(math.Sqrt(half), math.Sqrt(1-half))
}

func main() {
	listen := flag.String("listen", "", "")
	file := flag.String("features-file", "", "")
	flag.Parse()

	guide := &routeGuide{places: map[place]bool{}}
	text, err := os.ReadFile(*file)
	if err != nil {
		log.Fatal(err)
	}
	if err := json.Unmarshal(text, &guide.features); err != nil {
		log.Fatal(err)
	}
	for _, feature := range guide.features {
		guide.places[placeOf(feature.GetLocation())] = true
	}
	listener, err := net.Listen("tcp", *listen)
	if err != nil {
		log.Fatal(err)
	}
	server := grpc.NewServer()
	helloworld.RegisterGreeterServer(server, &greeter{})
	routeguide.RegisterRouteGuideServer(server, guide)
	fmt.Println("listening", listener.Addr())
	log.Fatal(server.Serve(listener))
}
