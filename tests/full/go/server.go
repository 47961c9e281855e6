package main

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"

	_ "google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	grpchealth "google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/reflection"
	"google.golang.org/grpc/status"
)

// Serves a RouteGuide with that many features.
func serve(count int) error {
	answer := func(_ any, stream grpc.ServerStream) error {
		method, _ := grpc.MethodFromServerStream(stream)
		var request []byte
		if err := stream.RecvMsg(&request); err != nil {
			return err
		}
		place := feature("ten bytes.", known)
		switch method {
		case check:
			return stream.SendMsg(&isServing)
		case guide + "GetFeature":
			return stream.SendMsg(&place)
		case guide + "ListFeatures":
			for range count {
				if err := stream.SendMsg(&place); err != nil {
					return err
				}
			}
			return nil
		}
		return status.Error(codes.Unimplemented, method)
	}
	server := grpc.NewServer(grpc.ForceServerCodec(raw{}), grpc.UnknownServiceHandler(answer))
	return run(server)
}

// Serves health and reflection, which describes google.rpc as well.
func describe() error {
	server := grpc.NewServer()
	healthpb.RegisterHealthServer(server, grpchealth.NewServer())
	reflection.Register(server)
	return run(server)
}

// Listens on free ports, which it prints as our servers do, until SIGTERM.
func run(server *grpc.Server) error {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	admin, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	// Whatever HAProxy asks, it is ready.
	go http.Serve(admin, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	told := make(chan os.Signal, 1)
	signal.Notify(told, syscall.SIGTERM)
	go func() {
		<-told
		server.GracefulStop()
	}()
	fmt.Printf("{\"grpc\": %q, \"admin\": %q}\n", listener.Addr(), admin.Addr())
	return server.Serve(listener)
}
