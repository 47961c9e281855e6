// Legal clients at full speed, which no limit of a server may touch, and a server of the same kind: grpc-go's.
//
//	legal [FLAGS] CASE ADDR COUNT    plays a case, beside an idle chat on the same connection
//	legal serve COUNT                serves ListFeatures with COUNT features
//	legal describe                   serves health and reflection
//
// The exit code is 1 if a call of the case, or the chat, did not go as it must.
package main

import (
	"crypto/x509"
	"flag"
	"fmt"
	"os"
	"strconv"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
)

// A case hangs if it takes longer.
const patience = 60 * time.Second

var cases = map[string]func(*client, int) error{
	"record":          record,
	"list":            list,
	"invalid":         invalid,
	"large":           large,
	"unauthenticated": unauthenticated,
	"shed":            shed,
	"deadline":        deadline,
	"chats":           chats,
	"unary":           unary,
	"cancel":          cancel,
	"health":          health,
	"soak":            soak,
}

func main() {
	ca := flag.String("ca", "", "a PEM file with the authority to trust; without it, plaintext")
	token := flag.String("token", "", "what the chat shows, and no other call")
	turn := flag.Int("turn", 0, "how many calls that are cut short a connection makes before the next; then not the chat's")
	flag.Parse()
	if flag.NArg() == 2 && flag.Arg(0) == "serve" {
		end(serve(number(flag.Arg(1))))
	}
	if flag.NArg() == 1 && flag.Arg(0) == "describe" {
		end(describe())
	}
	play, known := cases[flag.Arg(0)]
	if flag.NArg() != 3 || !known {
		fmt.Fprintln(os.Stderr, "usage: legal [FLAGS] CASE ADDR COUNT, legal serve COUNT, or legal describe")
		os.Exit(2)
	}
	c, err := (&client{addr: flag.Arg(1), ca: *ca, token: *token, turn: *turn}).another()
	if err != nil {
		end(err)
	}
	end(beside(c, play, number(flag.Arg(2))))
}

func number(text string) int {
	number, err := strconv.Atoi(text)
	if err != nil {
		end(err)
	}
	return number
}

func end(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// Plays a case, beside a chat that is opened before it and must be alive after it.
func beside(c *client, play func(*client, int) error, count int) error {
	chat, err := c.bystander()
	if err != nil {
		return fmt.Errorf("the bystander cannot begin: %w", err)
	}
	c.chat = chat
	began := time.Now()
	err = within(patience, func() error { return play(c, count) })
	fmt.Printf("%d in %v\n", count, time.Since(began).Round(time.Millisecond))
	if gone := chat.end(); gone != nil {
		return fmt.Errorf("the case: %v; the bystander: %w", err, gone)
	}
	return err
}

// The outcome of something that must not hang.
func within(limit time.Duration, what func() error) error {
	done := make(chan error, 1)
	go func() { done <- what() }()
	select {
	case err := <-done:
		return err
	case <-time.After(limit):
		return fmt.Errorf("not done within %v", limit)
	}
}

// A connection to the server; grpc-go makes another when it is lost, so only the chat tells.
type client struct {
	addr, ca, token string
	turn            int
	conn            *grpc.ClientConn
	chat            *bystander
}

// The same with a connection of its own.
func (c *client) another() (*client, error) {
	transport := insecure.NewCredentials()
	if c.ca != "" {
		pem, err := os.ReadFile(c.ca)
		if err != nil {
			return nil, err
		}
		roots := x509.NewCertPool()
		roots.AppendCertsFromPEM(pem)
		transport = credentials.NewClientTLSFromCert(roots, "")
	}
	conn, err := grpc.NewClient(c.addr, grpc.WithTransportCredentials(transport),
		grpc.WithDefaultCallOptions(grpc.ForceCodec(raw{})))
	other := *c
	other.conn = conn
	return &other, err
}
