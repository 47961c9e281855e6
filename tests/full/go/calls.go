package main

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Makes that many calls, by so many workers at once, until one goes wrong.
func many(workers, count int, call func() error) error {
	var next atomic.Int64
	done := make(chan error, workers)
	for range workers {
		go func() {
			for {
				nth := next.Add(1)
				if nth > int64(count) {
					done <- nil
					return
				}
				if err := call(); err != nil {
					next.Store(int64(count))
					done <- fmt.Errorf("call %d: %w", nth, err)
					return
				}
			}
		}()
	}
	var problem error
	for range workers {
		if err := <-done; problem == nil {
			problem = err
		}
	}
	return problem
}

// The same, on the bystander's connection, or on one after the other of as many calls as it is told.
func (c *client) inTurns(workers, count int, call func(*client) error) error {
	if c.turn == 0 {
		return many(workers, count, func() error { return call(c) })
	}
	for ; count > 0; count -= c.turn {
		own, err := c.another()
		if err == nil {
			err = many(workers, min(count, c.turn), func() error { return call(own) })
			own.conn.Close()
		}
		if err != nil {
			return fmt.Errorf("%d to go: %w", count, err)
		}
	}
	return nil
}

// Calls that are answered while their upload is under way: this message first, then some of the other, and
// no end. When it has the answer, grpc-go resets the stream.
func early(c *client, count int, opening, other []byte, code codes.Code) error {
	const UPLOAD = 100
	return c.inTurns(8, count, func(c *client) error {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		stream, err := c.open(ctx, guide+"RecordRoute")
		if err != nil {
			return err
		}
		err = send(stream, opening)
		for sent := 1; err == nil && sent < UPLOAD; sent++ {
			err = send(stream, other)
		}
		if err == nil {
			err = ending(stream)
		}
		if status.Code(err) != code {
			return fmt.Errorf("%v, and %v was expected", err, code)
		}
		// A lost connection is UNAVAILABLE, too, but does not say when to come back.
		if code == codes.Unavailable && len(stream.Trailer().Get("grpc-retry-pushback-ms")) != 1 {
			return fmt.Errorf("not the server's: %w", err)
		}
		return nil
	})
}

func invalid(c *client, count int) error {
	return early(c, count, offGlobe, known, codes.InvalidArgument)
}

// Points with a field of a kilobyte that the server does not know.
func large(c *client, count int) error {
	padded := append(embedded(100, make([]byte, 1000)), known...)
	return early(c, count, offGlobe, padded, codes.InvalidArgument)
}

func unauthenticated(c *client, count int) error {
	return early(c, count, known, known, codes.Unauthenticated)
}

// The server takes one call at a time, which is the bystander's.
func shed(c *client, count int) error {
	return early(c, count, known, known, codes.Unavailable)
}

// Unary calls whose request never comes: the server's own deadline ends them.
func deadline(c *client, count int) error {
	return c.inTurns(100, count, func(c *client) error {
		stream, err := c.open(context.Background(), guide+"GetFeature")
		if err != nil {
			return err
		}
		if err := ending(stream); status.Code(err) != codes.DeadlineExceeded {
			return fmt.Errorf("%v, and DeadlineExceeded was expected", err)
		}
		return nil
	})
}

func (c *client) invoke(method string, message []byte, expected func([]byte) bool) error {
	var reply []byte
	err := c.conn.Invoke(context.Background(), method, &message, &reply)
	if err == nil && !expected(reply) {
		return fmt.Errorf("%x came back", reply)
	}
	return err
}

func something(reply []byte) bool { return len(reply) > 0 }

// As many calls at once as a connection may have streams, with the bystander's.
func unary(c *client, count int) error {
	return many(199, count, func() error { return c.invoke(guide+"GetFeature", known, something) })
}

// Calls that are cancelled, in turn as soon as they are made and as soon as the server has begun with them.
func cancel(c *client, count int) error {
	var nth atomic.Int64
	return c.inTurns(20, count, func(c *client) error {
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		stream, err := c.open(ctx, guide+"RouteChat")
		if err != nil {
			return err
		}
		if nth.Add(1)%2 == 0 {
			if _, err := stream.Header(); err != nil {
				return err
			}
		}
		cancel()
		if err := ending(stream); status.Code(err) != codes.Canceled {
			return fmt.Errorf("%v, and Canceled was expected", err)
		}
		return nil
	})
}

// Channels that each watch the server's health, and ask for it besides.
func health(c *client, count int) error {
	const CHANNELS = 50
	return many(CHANNELS, CHANNELS, func() error {
		own, err := c.another()
		if err != nil {
			return err
		}
		defer own.conn.Close()
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		stream, err := own.open(ctx, watch)
		if err != nil {
			return err
		}
		var reply []byte
		if err := errors.Join(send(stream, nothing), stream.CloseSend(), stream.RecvMsg(&reply)); err != nil {
			return fmt.Errorf("Watch: %w", err)
		}
		if first(reply) != first(isServing) {
			return fmt.Errorf("Watch: %x came back", reply)
		}
		ask := func() error {
			return own.invoke(check, nothing, func(reply []byte) bool { return first(reply) == first(isServing) })
		}
		if err := many(4, count/CHANNELS, ask); err != nil {
			return err
		}
		cancel()
		if err := ending(stream); status.Code(err) != codes.Canceled {
			return fmt.Errorf("Watch: %v, before it was cancelled", err)
		}
		return nil
	})
}

// Calls of all four kinds for that many seconds, from eight channels whose connections grow old.
func soak(c *client, seconds int) error {
	const CHANNELS = 8
	end := time.Now().Add(time.Duration(seconds) * time.Second)
	var calls, lost atomic.Int64
	err := many(CHANNELS, CHANNELS, func() error {
		own, err := c.another()
		if err != nil {
			return err
		}
		defer own.conn.Close()
		var last error
		for nth := 0; time.Now().Before(end); nth++ {
			calls.Add(1)
			if err := own.anyKind(nth); err != nil {
				lost.Add(1)
				last = err
			}
		}
		return last
	})
	fmt.Printf("%d lost of %d\n", lost.Load(), calls.Load())
	return err
}

func (c *client) anyKind(nth int) error {
	place := rectangle(known, known)
	left := note(known, []byte("soak"))
	kinds := []struct {
		method   string
		messages [][]byte
	}{
		{"GetFeature", [][]byte{known}},
		{"ListFeatures", [][]byte{place}},
		{"RecordRoute", [][]byte{known, known, known}},
		{"RouteChat", [][]byte{left, left}},
	}
	kind := kinds[nth%len(kinds)]
	stream, err := c.open(context.Background(), guide+kind.method)
	if err != nil {
		return err
	}
	for _, message := range kind.messages {
		if err := send(stream, message); err != nil {
			return fmt.Errorf("%s: %w", kind.method, err)
		}
	}
	if err := errors.Join(stream.CloseSend(), ending(stream)); err != nil {
		return fmt.Errorf("%s: %w", kind.method, err)
	}
	return nil
}
