package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
)

var bothWays = &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}

func (c *client) open(ctx context.Context, method string) (grpc.ClientStream, error) {
	return c.conn.NewStream(ctx, bothWays, method)
}

// Sends a message. The error is what the stream ended with, which SendMsg does not say if it was the server's.
func send(stream grpc.ClientStream, message []byte) error {
	err := stream.SendMsg(&message)
	if err != io.EOF {
		return err
	}
	if err := ending(stream); err != nil {
		return err
	}
	return errors.New("the stream has ended, with OK")
}

// What a stream ends with; nil if that is OK.
func ending(stream grpc.ClientStream) error {
	for {
		var reply []byte
		switch err := stream.RecvMsg(&reply); err {
		case nil:
		case io.EOF:
			return nil
		default:
			return err
		}
	}
}

// A chat in which hardly anything is said.
type bystander struct {
	stream grpc.ClientStream
	note   []byte
	said   int
}

func (c *client) bystander() (*bystander, error) {
	ctx := context.Background()
	if c.token != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+c.token)
	}
	stream, err := c.open(ctx, guide+"RouteChat")
	if err != nil {
		return nil, err
	}
	// A place where nobody else says anything.
	chat := &bystander{stream: stream, note: note(point(int32(os.Getpid()), 1), []byte("still here"))}
	return chat, errors.Join(chat.speak(), chat.speak())
}

// Says something, and hears all that it said before.
func (b *bystander) speak() error {
	return within(5*time.Second, func() error {
		if err := send(b.stream, b.note); err != nil {
			return err
		}
		for range b.said {
			var reply []byte
			if err := b.stream.RecvMsg(&reply); err != nil {
				return err
			}
			if !bytes.Equal(reply, b.note) {
				return fmt.Errorf("%x came back", reply)
			}
		}
		b.said++
		return nil
	})
}

func (b *bystander) end() error {
	if err := b.speak(); err != nil {
		return err
	}
	return within(5*time.Second, func() error {
		return errors.Join(b.stream.CloseSend(), ending(b.stream))
	})
}

// One route of that many points.
func record(c *client, count int) error {
	stream, err := c.open(context.Background(), guide+"RecordRoute")
	if err != nil {
		return err
	}
	for sent := range count {
		if err := send(stream, known); err != nil {
			return fmt.Errorf("after %d points: %w", sent, err)
		}
	}
	if err := stream.CloseSend(); err != nil {
		return err
	}
	var summary []byte
	if err := stream.RecvMsg(&summary); err != nil {
		return fmt.Errorf("after all points: %w", err)
	}
	if counted := first(summary); counted != count {
		return fmt.Errorf("%d points were counted", counted)
	}
	return ending(stream)
}

// All features, of which there must be that many.
func list(c *client, count int) error {
	stream, err := c.open(context.Background(), guide+"ListFeatures")
	if err != nil {
		return err
	}
	if err := errors.Join(send(stream, world), stream.CloseSend()); err != nil {
		return err
	}
	for received := 0; ; received++ {
		var reply []byte
		switch err := stream.RecvMsg(&reply); {
		case err == io.EOF && received == count:
			return nil
		case err != nil:
			return fmt.Errorf("after %d features: %w", received, err)
		}
	}
}

// Four chats whose replies nobody takes until none of them can go on; the bystander can, and in the end so
// can they.
func chats(c *client, count int) error {
	const CHATS, REMEMBERED = 4, 10
	var sent atomic.Int64
	var senders, readers sync.WaitGroup
	taken := make(chan struct{})
	problems := make(chan error, 2*CHATS)
	for nth := range CHATS {
		stream, err := c.open(context.Background(), guide+"RouteChat")
		if err != nil {
			return err
		}
		message := note(point(int32(os.Getpid()), int32(2+nth)), bytes.Repeat([]byte("x"), 1000))
		senders.Go(func() {
			for range count {
				if stream.SendMsg(&message) != nil {
					return // the reader hears why
				}
				sent.Add(1)
			}
			problems <- stream.CloseSend()
		})
		readers.Go(func() {
			<-taken
			problems <- replies(stream, count, REMEMBERED)
		})
	}
	for before := int64(-1); before < sent.Load(); time.Sleep(200 * time.Millisecond) {
		before = sent.Load()
	}
	stalled := sent.Load() < int64(CHATS*count)
	err := c.chat.speak()
	if err != nil {
		err = fmt.Errorf("the bystander, beside chats that have sent %d notes: %w", sent.Load(), err)
	}
	close(taken)
	senders.Wait()
	readers.Wait()
	close(problems)
	for problem := range problems {
		err = errors.Join(err, problem)
	}
	fmt.Printf("stalled: %t\n", stalled)
	return err
}

// Each note brings back those before it, as many as are remembered.
func replies(stream grpc.ClientStream, notes, remembered int) error {
	expected := 0
	for earlier := range notes {
		expected += min(earlier, remembered)
	}
	for received := 0; ; received++ {
		var reply []byte
		switch err := stream.RecvMsg(&reply); {
		case err == io.EOF && received == expected:
			return nil
		case err != nil:
			return fmt.Errorf("after %d of %d replies: %w", received, expected, err)
		}
	}
}
