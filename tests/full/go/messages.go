package main

import (
	"google.golang.org/protobuf/encoding/protowire"
)

const (
	guide = "/routeguide.RouteGuide/"
	check = "/grpc.health.v1.Health/Check"
	watch = "/grpc.health.v1.Health/Watch"
)

// A codec for messages that are bytes already.
type raw struct{}

func (raw) Marshal(v any) ([]byte, error) { return *v.(*[]byte), nil }

func (raw) Unmarshal(data []byte, v any) error {
	*v.(*[]byte) = append([]byte(nil), data...)
	return nil
}

func (raw) Name() string { return "proto" }

func varint(field protowire.Number, value int32) []byte {
	tag := protowire.AppendTag(nil, field, protowire.VarintType)
	return protowire.AppendVarint(tag, uint64(int64(value)))
}

func embedded(field protowire.Number, message []byte) []byte {
	tag := protowire.AppendTag(nil, field, protowire.BytesType)
	return protowire.AppendBytes(tag, message)
}

// A Point; of 17 bytes in the north-west.
func point(latitude, longitude int32) []byte {
	return append(varint(1, latitude), varint(2, longitude)...)
}

func rectangle(lo, hi []byte) []byte {
	return append(embedded(1, lo), embedded(2, hi)...)
}

func note(place []byte, text []byte) []byte {
	return append(embedded(1, place), embedded(2, text)...)
}

// A Feature; of 31 bytes with a name of ten.
func feature(name string, place []byte) []byte {
	return append(embedded(1, []byte(name)), embedded(2, place)...)
}

var (
	known     = point(409146138, -746188906)
	offGlobe  = point(900000001, -746188906)
	world     = rectangle(point(-900000000, -1800000000), point(900000000, 1800000000))
	nothing   = []byte{}
	isServing = varint(1, 1)
)

// The first field of a message whose first field is a number.
func first(message []byte) int {
	_, _, tag := protowire.ConsumeTag(message)
	if tag < 0 {
		return 0
	}
	value, _ := protowire.ConsumeVarint(message[tag:])
	return int(value)
}
