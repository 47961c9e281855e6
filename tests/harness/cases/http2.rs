//! What RFC 9113 and RFC 7541 require of a server.

use super::*;

pub(super) fn cases() -> Vec<Case> {
    [
        prefaces(),
        good_settings(),
        bad_settings(),
        sizes(),
        streams(),
        states(),
        resets(),
        header_blocks(),
        good_compression(),
        bad_compression(),
        good_fields(),
        malformed_fields(),
        malformed_bodies(),
        padding(),
        priorities_and_pushes(),
        good_windows(),
        bad_windows(),
        pings(),
        unknown_frames(),
        goaways(),
        floods(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn prefaces() -> Vec<Case> {
    use Reaction::{Closed, Ignored};
    const SOURCE: &str = "RFC 9113, 3.4";
    const UPGRADE: &[u8] = b"GET / HTTP/1.1\r\nhost: echo\r\n\
        connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: \r\n\r\n";
    let after_magic = |frame: Vec<u8>| [magic(), &frame].concat();
    vec![
        bytes("the preface opens a connection", SOURCE, PREFACE, Ignored),
        bytes("garbage is no preface", SOURCE, &[0xa5; 64], Closed),
        bytes("a preface for another version is none", SOURCE, b"PRI * HTTP/3.0\r\n\r\nSM\r\n\r\n",
            Closed),
        bytes("a preface in lower case is none", SOURCE, b"pri * http/2.0\r\n\r\nsm\r\n\r\n",
            Closed),
        bytes("a preface with a wrong last byte is none", SOURCE,
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\r", Closed),
        bytes("a preface after an empty line is none", SOURCE, &[b"\r\n", PREFACE].concat(),
            Closed),
        bytes("HTTP/1.1 is not spoken", "README, limits",
            b"GET / HTTP/1.1\r\nhost: echo\r\n\r\n", Closed),
        bytes("HTTP/1.0 is not spoken", "README, limits", b"GET / HTTP/1.0\r\n\r\n", Closed),
        bytes("no upgrade from HTTP/1.1", "RFC 9113, 3.1", UPGRADE, Closed),
        bytes("TLS on the plaintext port is hung up on", "README, limits",
            b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00", Closed),
        bytes("frames without a preface", SOURCE, &[settings(&[]), hello(1)].concat(), Closed),
        bytes("PING before SETTINGS", SOURCE, &after_magic(ping(*b"too soon")), Closed),
        bytes("HEADERS before SETTINGS", SOURCE, &after_magic(hello(1)), Closed),
        bytes("WINDOW_UPDATE before SETTINGS", SOURCE, &after_magic(window_update(0, 1)), Closed),
        bytes("an unknown frame before SETTINGS", SOURCE, &after_magic(frame(0xbe, 0, 0, b"?")),
            Closed),
        case("a second preface is read as a frame far too large", "RFC 9113, 4.2",
            &[magic().to_vec()], goes(code::FRAME_SIZE_ERROR)),
    ]
}

fn good_settings() -> Vec<Case> {
    use Reaction::{Acknowledged, Ignored};
    const ACKS: &str = "RFC 9113, 6.5.3";
    let with = |name, value| [settings(&[(name, value)]), hello(1)];
    vec![
        case("SETTINGS are acknowledged", ACKS, &[], Acknowledged(1)),
        case("each SETTINGS is acknowledged", ACKS, &[settings(&[]), settings(&[])],
            Acknowledged(3)),
        case("SETTINGS in the middle of a call are acknowledged", ACKS,
            &[chat(1), settings(&[(setting::ENABLE_PUSH, 0)])], Acknowledged(2)),
        case("the last value of a setting counts", ACKS,
            &[settings(&[(setting::INITIAL_WINDOW_SIZE, 0),
                        (setting::INITIAL_WINDOW_SIZE, 65_535)]), hello(1)], ok(1)),
        case("an unknown setting is ignored", "RFC 9113, 6.5.2", &with(0xbabe, u32::MAX), ok(1)),
        case("flags that SETTINGS do not have are ignored", "RFC 9113, 4.1",
            &[frame(kind::SETTINGS, 0xfe, 0, b"")], Acknowledged(2)),
        case("no header table at all", "RFC 9113, 6.5.2", &with(setting::HEADER_TABLE_SIZE, 0),
            ok(1)),
        case("the largest header table", "RFC 9113, 6.5.2",
            &with(setting::HEADER_TABLE_SIZE, u32::MAX), ok(1)),
        case("no push", "RFC 9113, 6.5.2", &with(setting::ENABLE_PUSH, 0), ok(1)),
        case("no pushed streams limits no calls", "RFC 9113, 6.5.2",
            &with(setting::MAX_CONCURRENT_STREAMS, 0), ok(1)),
        case("the largest window", "RFC 9113, 6.5.2",
            &with(setting::INITIAL_WINDOW_SIZE, 0x7fff_ffff), ok(1)),
        case("the smallest frame size", "RFC 9113, 6.5.2", &with(setting::MAX_FRAME_SIZE, 16_384),
            ok(1)),
        case("the largest frame size", "RFC 9113, 6.5.2", &with(setting::MAX_FRAME_SIZE, 0xff_ffff),
            ok(1)),
        case("the largest header list", "RFC 9113, 6.5.2",
            &with(setting::MAX_HEADER_LIST_SIZE, u32::MAX), ok(1)),
        case("a client's ENABLE_CONNECT_PROTOCOL has no effect", "RFC 8441, 3",
            &with(setting::ENABLE_CONNECT_PROTOCOL, 1), ok(1)),
        case("NO_RFC7540_PRIORITIES", "RFC 9218, 2.1", &[settings(&[(9, 1)])], Ignored),
    ]
}

fn bad_settings() -> Vec<Case> {
    const VALUES: &str = "RFC 9113, 6.5.2";
    let with = |name, value| [settings(&[(name, value)])];
    let wrong = goes(code::PROTOCOL_ERROR);
    let size = goes(code::FRAME_SIZE_ERROR);
    vec![
        case("SETTINGS on a stream", "RFC 9113, 6.5", &[frame(kind::SETTINGS, 0, 1, b"")], wrong),
        case("half a setting", "RFC 9113, 6.5", &[frame(kind::SETTINGS, 0, 0, b"\0\x04\0")], size),
        case("a setting and a byte", "RFC 9113, 6.5",
            &[frame(kind::SETTINGS, 0, 0, b"\0\x04\0\0\xff\xff\0")], size),
        case("SETTINGS that acknowledge and set", "RFC 9113, 6.5",
            &[frame(kind::SETTINGS, flag::ACK, 0, b"\0\x04\0\0\xff\xff")], size),
        case("ENABLE_PUSH of 2", VALUES, &with(setting::ENABLE_PUSH, 2), wrong),
        case("INITIAL_WINDOW_SIZE of 2^31", VALUES, &with(setting::INITIAL_WINDOW_SIZE, 1 << 31),
            goes(code::FLOW_CONTROL_ERROR)),
        case("MAX_FRAME_SIZE under 2^14", VALUES, &with(setting::MAX_FRAME_SIZE, 16_383), wrong),
        case("MAX_FRAME_SIZE of 2^24", VALUES, &with(setting::MAX_FRAME_SIZE, 1 << 24), wrong),
        case("MAX_FRAME_SIZE of 0", VALUES, &with(setting::MAX_FRAME_SIZE, 0), wrong),
        case("ENABLE_CONNECT_PROTOCOL of 2", "RFC 8441, 3",
            &with(setting::ENABLE_CONNECT_PROTOCOL, 2), wrong),
        case("a window made larger than 2^31-1 by SETTINGS", "RFC 9113, 6.9.2",
            &[chat(1), window_update(1, 0x7fff_ffff - 65_535),
                settings(&[(setting::INITIAL_WINDOW_SIZE, 65_536)])],
            goes(code::FLOW_CONTROL_ERROR)),
    ]
}

fn sizes() -> Vec<Case> {
    const SOURCE: &str = "RFC 9113, 4.2";
    let wrong = goes(code::FRAME_SIZE_ERROR);
    let large = vec![0; 16_385];
    vec![
        case("a frame of the largest size", SOURCE, &[call(1, &head(), &named(16_376))], ok(1)),
        case("DATA over the largest size", SOURCE, &[open(1, &head()), data(1, 0, &large)],
            Reaction::Refused(1)),
        case("HEADERS over the largest size", SOURCE, &[open(1, &large)], wrong),
        case("CONTINUATION over the largest size", SOURCE,
            &[headers(1, 0, &head()), continuation(1, 0, &large)], wrong),
        case("SETTINGS over the largest size", SOURCE, &[frame(kind::SETTINGS, 0, 0, &[0; 16_386])],
            wrong),
        case("an unknown frame over the largest size", SOURCE, &[frame(0xbe, 0, 0, &large)], wrong),
        case("16 MiB are refused before they come", SOURCE, &[header(0xff_ffff, kind::DATA, 0, 0)],
            wrong),
        case("PING of seven bytes", "RFC 9113, 6.7", &[frame(kind::PING, 0, 0, &[0; 7])], wrong),
        case("PING of nine bytes", "RFC 9113, 6.7", &[frame(kind::PING, 0, 0, &[0; 9])], wrong),
        case("RST_STREAM of three bytes", "RFC 9113, 6.4",
            &[chat(1), frame(kind::RST_STREAM, 0, 1, &[0; 3])], wrong),
        case("RST_STREAM of five bytes", "RFC 9113, 6.4",
            &[chat(1), frame(kind::RST_STREAM, 0, 1, &[0; 5])], wrong),
        case("WINDOW_UPDATE of three bytes", "RFC 9113, 6.9",
            &[frame(kind::WINDOW_UPDATE, 0, 0, &[0; 3])], wrong),
        case("WINDOW_UPDATE of five bytes", "RFC 9113, 6.9",
            &[frame(kind::WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1, 0])], wrong),
        case("GOAWAY of seven bytes", SOURCE, &[frame(kind::GOAWAY, 0, 0, &[0; 7])], wrong),
        case("PRIORITY of four bytes", "RFC 9113, 6.3",
            &[chat(1), frame(kind::PRIORITY, 0, 1, &[0; 4])], Reaction::Refused(1)),
        case("HEADERS too short for their priority", SOURCE,
            &[headers(1, flag::END_HEADERS | flag::PRIORITY, &[0; 4])], wrong),
        case("PUSH_PROMISE too short for its stream", SOURCE,
            &[chat(1), frame(kind::PUSH_PROMISE, flag::END_HEADERS, 1, &[0; 3])], Reaction::Closed),
    ]
}

fn streams() -> Vec<Case> {
    const IDS: &str = "RFC 9113, 5.1.1";
    const IDLE: &str = "RFC 9113, 5.1, idle";
    let wrong = goes(code::PROTOCOL_ERROR);
    vec![
        case("a call on stream 0", "RFC 9113, 6.2", &[hello(0)], wrong),
        case("DATA on stream 0", "RFC 9113, 6.1", &[data(0, 0, b"x")], wrong),
        case("RST_STREAM on stream 0", "RFC 9113, 6.4", &[rst_stream(0, code::CANCEL)], wrong),
        case("PRIORITY on stream 0", "RFC 9113, 6.3", &[priority(0, 1)], wrong),
        case("CONTINUATION on stream 0", "RFC 9113, 6.10",
            &[continuation(0, flag::END_HEADERS, b"")], wrong),
        case("PING on a stream", "RFC 9113, 6.7", &[chat(1), frame(kind::PING, 0, 1, &[0; 8])],
            wrong),
        case("GOAWAY on a stream", "RFC 9113, 6.8", &[chat(1), frame(kind::GOAWAY, 0, 1, &[0; 8])],
            wrong),
        case("a call on a server's stream", IDS, &[hello(2)], wrong),
        case("a stream below the last one", IDS, &[hello(5), hello(3)], wrong),
        case("a stream that is used twice", IDS, &[hello(1), hello(1)], Reaction::Refused(1)),
        case("streams may be left out", IDS, &[hello(1), hello(9)], ok(9)),
        case("the reserved bit of a stream is ignored", "RFC 9113, 4.1", &[hello(1 | 1 << 31)],
            ok(1)),
        case("many calls on one connection", IDS,
            &(1..100).step_by(2).map(hello).collect::<Vec<_>>(), ok(99)),
        case("DATA on an idle stream", IDLE, &[data(1, 0, b"x")], wrong),
        case("RST_STREAM on an idle stream", "RFC 9113, 6.4", &[rst_stream(1, code::CANCEL)],
            wrong),
        case("WINDOW_UPDATE on an idle stream", IDLE, &[window_update(1, 1)], wrong),
        case("WINDOW_UPDATE on a server's stream", IDLE, &[window_update(2, 1)], wrong),
        case("RST_STREAM on a server's stream", IDLE, &[rst_stream(2, code::CANCEL)], wrong),
        case("DATA on a stream that was left out", IDS, &[hello(5), data(3, 0, b"x")],
            Reaction::Refused(3)),
    ]
}

fn states() -> Vec<Case> {
    use Reaction::{Ignored, Refused};
    const CLOSED: &str = "RFC 9113, 5.1, closed";
    vec![
        case("DATA after the end of a request", "RFC 9113, 5.1, half-closed",
            &[hello(1), data(1, 0, b"x")], Refused(1)),
        case("HEADERS after the end of a request", "RFC 9113, 5.1, half-closed",
            &[hello(1), open(1, &head())], Refused(1)),
        case("DATA after RST_STREAM", CLOSED,
            &[chat(1), rst_stream(1, code::CANCEL), data(1, 0, b"x")], Refused(1)),
        case("WINDOW_UPDATE after the end of a request", CLOSED, &[hello(1), window_update(1, 1)],
            ok(1)),
        case("WINDOW_UPDATE after RST_STREAM", CLOSED,
            &[chat(1), rst_stream(1, code::CANCEL), window_update(1, 1)], Ignored),
        case("PRIORITY after RST_STREAM", CLOSED,
            &[chat(1), rst_stream(1, code::CANCEL), priority(1, 0)], Ignored),
        case("trailers end a request", "RFC 9113, 8.1",
            &[open(1, &head()), says(1),
                headers(1, flag::END_HEADERS | flag::END_STREAM, &field("x", "y"))], ok(1)),
        case("trailers that do not end the request", "RFC 9113, 8.1",
            &[open(1, &head()), says(1), open(1, &field("x", "y"))], Refused(1)),
    ]
}

fn resets() -> Vec<Case> {
    const SOURCE: &str = "RFC 9113, 6.4";
    let reset = |code| rst_stream(1, code);
    vec![
        case("a call is reset after its headers", SOURCE, &[open(1, &head()), reset(code::CANCEL)],
            Reaction::Ignored),
        case("a call is reset after its message", SOURCE,
            &[open(1, &head()), says(1), reset(code::CANCEL)], Reaction::Ignored),
        case("a call is reset in its message", SOURCE,
            &[open(1, &head()), data(1, 0, &tonic()[..8]), reset(code::CANCEL)], Reaction::Ignored),
        case("a call is reset after its end", SOURCE, &[hello(1), reset(code::CANCEL)],
            Reaction::Ignored),
        case("a call is reset without an error", SOURCE, &[chat(1), reset(code::NO_ERROR)],
            Reaction::Ignored),
        case("a call is reset with an unknown code", "RFC 9113, 7", &[chat(1), reset(0xdead_beef)],
            Reaction::Ignored),
        case("the reset of one call leaves the others", SOURCE,
            &[chat(1), chat(3), reset(code::CANCEL), last(3)], ok(3)),
    ]
}

fn header_blocks() -> Vec<Case> {
    const SOURCE: &str = "RFC 9113, 6.10";
    const ORDER: &str = "RFC 9113, 4.3";
    let all = head();
    let (first, second) = all.split_at(all.len() / 2);
    let begun = || headers(1, 0, first);
    let ended = || continuation(1, flag::END_HEADERS, second);
    let wrong = goes(code::PROTOCOL_ERROR);
    let after = |name, frame| case(name, ORDER, &[begun(), frame, ended(), last(1)], wrong);
    vec![
        case("headers cut in the middle of a field", SOURCE, &[begun(), ended(), last(1)], ok(1)),
        case("headers in four frames", SOURCE,
            &[headers(1, 0, &all[..5]), continuation(1, 0, &all[5..9]),
                continuation(1, 0, &all[9..30]), continuation(1, flag::END_HEADERS, &all[30..]),
                last(1)], ok(1)),
        case("headers that begin with none", SOURCE,
            &[headers(1, 0, b""), continuation(1, flag::END_HEADERS, &all), last(1)], ok(1)),
        case("a CONTINUATION that adds nothing", SOURCE,
            &[headers(1, 0, &all), continuation(1, flag::END_HEADERS, b""), last(1)], ok(1)),
        case("headers that end the stream go on in CONTINUATION", "RFC 9113, 6.2",
            &[headers(1, flag::END_STREAM, first), ended()], fails(200, 12)),
        after("DATA in a header block", data(1, 0, b"x")),
        after("HEADERS in a header block", open(3, &head())),
        after("PING in a header block", ping(*b"too soon")),
        after("SETTINGS in a header block", settings(&[])),
        after("RST_STREAM in a header block", rst_stream(1, code::CANCEL)),
        after("WINDOW_UPDATE in a header block", window_update(0, 1)),
        after("an unknown frame in a header block", frame(0xbe, 0, 0, b"")),
        after("CONTINUATION of another stream", continuation(3, flag::END_HEADERS, second)),
        case("CONTINUATION of nothing", SOURCE, &[continuation(1, flag::END_HEADERS, &all)], wrong),
        case("CONTINUATION after the end of the headers", SOURCE,
            &[open(1, &all), continuation(1, flag::END_HEADERS, b"")], wrong),
    ]
}

/// A call whose headers begin or end with these bytes.
fn packed(before: &[u8], after: &[u8]) -> [Vec<u8>; 1] {
    [call(1, &[before, &head(), after].concat(), &tonic())]
}

fn good_compression() -> Vec<Case> {
    let path = field(":path", HELLO);
    let rest = block([("te", "trailers"), ("content-type", "application/grpc")]);
    // Stored by the first call, first and second of the dynamic table in the second one.
    let stored = |name: &str, value: &str| [vec![0x40], field(name, value).split_off(1)].concat();
    let typed = field("content-type", "application/grpc");
    let stores = [b"\x83\x86", &*path, &stored("x", "y"), &stored("te", "trailers"),
        &typed].concat();
    let looks_up = [b"\x83\x86", &*path, b"\xbe\xbf", &typed].concat();
    vec![
        case("fields from the static table", "RFC 7541, 6.1",
            &[call(1, &[b"\x83\x86", &*path, &rest].concat(), &tonic())], ok(1)),
        case("fields from the dynamic table", "RFC 7541, 6.2.1",
            &[call(1, &stores, &tonic()), call(3, &looks_up, &tonic())], ok(3)),
        case("a name from the static table", "RFC 7541, 6.2.2", &packed(b"", b"\x0f\x2b\x04none"),
            ok(1)),
        case("a field that must never be indexed", "RFC 7541, 6.2.3",
            &packed(b"", b"\x10\x08x-secret\x01s"), ok(1)),
        case("a Huffman coded value", "RFC 7541, 5.2",
            &packed(b"", b"\0\x01x\x86\x4d\x83\x35\x05\xb1\x1f"), ok(1)),
        case("an empty value", "RFC 7541, 5.2", &packed(b"", b"\0\x07x-empty\0"), ok(1)),
        case("the dynamic table is emptied", "RFC 7541, 4.3", &packed(b"\x20", b""), ok(1)),
        case("the dynamic table is emptied and made large again", "RFC 7541, 4.2",
            &packed(b"\x20\x3f\xe1\x1f", b""), ok(1)),
        case("a field larger than the dynamic table", "RFC 7541, 4.4",
            &packed(b"", &stored("x-large", &"l".repeat(5000))), ok(1)),
    ]
}

fn bad_compression() -> Vec<Case> {
    let wrong = goes(code::COMPRESSION_ERROR);
    let ends_in = |name, source, bytes: &[u8]| case(name, source, &packed(b"", bytes), wrong);
    vec![
        ends_in("index 0", "RFC 7541, 6.1", b"\x80"),
        ends_in("an index beyond both tables", "RFC 7541, 2.3.3", b"\xbe"),
        ends_in("a name beyond both tables", "RFC 7541, 2.3.3", b"\x7e\x01x"),
        ends_in("an index far beyond both tables", "RFC 7541, 2.3.3", b"\xff\xff\xff\x7f"),
        ends_in("an integer that never ends", "RFC 7541, 5.1",
            b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"),
        ends_in("an integer that is cut off", "RFC 9113, 4.3", b"\xff\x80"),
        ends_in("a name longer than the block", "RFC 9113, 4.3", b"\0\x7e\x01x"),
        ends_in("a value longer than the block", "RFC 9113, 4.3", b"\0\x01x\x05y"),
        ends_in("a field without its value", "RFC 9113, 4.3", b"\0\x01x"),
        ends_in("Huffman code that holds EOS", "RFC 7541, 5.2", b"\0\x01x\x84\xff\xff\xff\xff"),
        ends_in("Huffman code with padding of zeros", "RFC 7541, 5.2",
            b"\0\x01x\x86\x4d\x83\x35\x05\xb1\x00"),
        ends_in("Huffman code with a byte of padding", "RFC 7541, 5.2",
            b"\0\x01x\x87\x4d\x83\x35\x05\xb1\x1f\xff"),
        ends_in("a new table size after a field", "RFC 7541, 4.2", b"\x20"),
        case("a table size over the limit", "RFC 7541, 6.3", &packed(b"\x3f\xe2\x1f", b""), wrong),
        case("a field from a table that has been emptied", "RFC 7541, 4.3",
            &[call(1, &[head(), b"\x40\x01x\x01y".to_vec()].concat(), &tonic()),
                call(3, &[b"\x20\xbe".as_slice(), &head()].concat(), &tonic())], wrong),
    ]
}

fn good_fields() -> Vec<Case> {
    let with = |name: &str, value: &str| [call(1, &head_and(name, value), &tonic())];
    vec![
        case("no :authority", "RFC 9113, 8.3.1", &[call(1, &head_without(":authority"), &tonic())],
            ok(1)),
        case("https without TLS, as proxies send it", "RFC 9113, 8.3.1",
            &[call(1, &head_with(":scheme", "https"), &tonic())], ok(1)),
        case("no te", "gRPC over HTTP/2, Requests", &[call(1, &head_without("te"), &tonic())],
            ok(1)),
        case("a field twice", "RFC 9110, 5.2",
            &[call(1, &[head_and("x", "1"), field("x", "2")].concat(), &tonic())], ok(1)),
        case("cookies in crumbs", "RFC 9113, 8.2.3",
            &[call(1, &[head_and("cookie", "a=1"), field("cookie", "b=2")].concat(), &tonic())],
            ok(1)),
        case("a value of obsolete text", "RFC 9110, 5.5",
            &[call(1, &head_and("x", b"\xe9\xff"), &tonic())], ok(1)),
        case("a value of 8 KiB", "README, limits", &with("x-large", &"l".repeat(8 * 1024)), ok(1)),
        case("a hundred fields", "README, limits",
            &[call(1, &[head(), field("x", "y").repeat(100)].concat(), &tonic())], ok(1)),
        case("binary metadata", "gRPC over HTTP/2, Requests", &with("x-bin", "3q2+7w"), ok(1)),
        case("unknown metadata of a reserved name", "gRPC over HTTP/2, Requests",
            &with("grpc-unheard-of", "x"), ok(1)),
        case("a content-length that is right", "RFC 9113, 8.1.1", &with("content-length", "12"),
            ok(1)),
    ]
}

fn malformed_fields() -> Vec<Case> {
    const NAMES: &str = "RFC 9113, 8.2.1";
    const CONNECTION: &str = "RFC 9113, 8.2.2";
    const PSEUDO: &str = "RFC 9113, 8.3";
    const REQUEST: &str = "RFC 9113, 8.3.1";
    let malformed = |name, source, head: Vec<u8>| {
        case(name, source, &[call(1, &head, &tonic())], Reaction::Refused(1))
    };
    let with = |name, source, field: &str, value: &str| {
        malformed(name, source, head_and(field, value))
    };
    let first = |name: &str, value: &str| [field(name, value), head()].concat();
    vec![
        with("a name in capitals", NAMES, "X-Capital", "x"),
        with("a name with a space", NAMES, "x y", "x"),
        with("a name with a colon", NAMES, "x:y", "x"),
        with("a name with a control character", NAMES, "x\x01", "x"),
        with("an empty name", NAMES, "", "x"),
        malformed("a name beyond ASCII", NAMES, head_and(b"x\xe9", "x")),
        with("a value with NUL", NAMES, "x", "a\0b"),
        with("a value with a line feed", NAMES, "x", "a\nb"),
        with("a value with a carriage return", NAMES, "x", "a\rb"),
        with("a value after a space", NAMES, "x", " a"),
        with("a value before a tab", NAMES, "x", "a\t"),
        with("the field connection", CONNECTION, "connection", "close"),
        with("the field keep-alive", CONNECTION, "keep-alive", "timeout=5"),
        with("the field proxy-connection", CONNECTION, "proxy-connection", "close"),
        with("the field transfer-encoding", CONNECTION, "transfer-encoding", "chunked"),
        with("the field upgrade", CONNECTION, "upgrade", "h2c"),
        malformed("te other than trailers", CONNECTION, head_with("te", "gzip")),
        malformed("no :method", REQUEST, head_without(":method")),
        malformed("no :scheme", REQUEST, head_without(":scheme")),
        malformed("no :path", REQUEST, head_without(":path")),
        malformed("an empty :path", REQUEST, head_with(":path", "")),
        malformed("a :path that begins with no slash", REQUEST, head_with(":path", &HELLO[1..])),
        malformed("two :method", REQUEST, first(":method", "POST")),
        malformed("two :scheme", REQUEST, first(":scheme", "http")),
        malformed("two :path", REQUEST, first(":path", HELLO)),
        malformed("two :authority", REQUEST, first(":authority", "echo")),
        malformed("an unknown pseudo-field", PSEUDO, first(":unheard-of", "x")),
        malformed("a response's pseudo-field", PSEUDO, first(":status", "200")),
        malformed("a pseudo-field after another field", PSEUDO,
            [head_without(":path"), field(":path", HELLO)].concat()),
        malformed("no fields at all", REQUEST, vec![]),
        malformed(":protocol without CONNECT", "RFC 8441, 4", first(":protocol", "websocket")),
        malformed("CONNECT with :scheme and :path", "RFC 9113, 8.5",
            head_with(":method", "CONNECT")),
    ]
}

fn malformed_bodies() -> Vec<Case> {
    const SOURCE: &str = "RFC 9113, 8.1.1";
    let announced = |length| open(1, &head_and("content-length", length));
    let trailers = |field: Vec<u8>| headers(1, flag::END_HEADERS | flag::END_STREAM, &field);
    let with = |name, frames: &[Vec<u8>]| case(name, SOURCE, frames, Reaction::Refused(1));
    vec![
        with("more than content-length", &[announced("5"), last(1)]),
        with("less than content-length", &[announced("500"), last(1)]),
        with("nothing of content-length",
            &[headers(1, flag::END_HEADERS | flag::END_STREAM, &head_and("content-length", "5"))]),
        with("content-length that is no number", &[announced("twelve"), last(1)]),
        with("a pseudo-field in trailers",
            &[open(1, &head()), says(1), trailers(field(":path", HELLO))]),
        with("capitals in trailers", &[open(1, &head()), says(1), trailers(field("X", "y"))]),
    ]
}

fn padding() -> Vec<Case> {
    let wrong = goes(code::PROTOCOL_ERROR);
    let opens = flag::END_HEADERS | flag::PADDED;
    let ends = flag::END_STREAM | flag::PADDED;
    let with = |name, source, head: Vec<u8>, body: Vec<u8>, reaction| {
        case(name, source, &[head, body], reaction)
    };
    let body = |flags, payload: &[u8]| data(1, flags, payload);
    vec![
        with("padded HEADERS", "RFC 9113, 6.2", headers(1, opens, &padded(&head(), 255)), last(1),
            ok(1)),
        with("padded DATA", "RFC 9113, 6.1", open(1, &head()), body(ends, &padded(&tonic(), 255)),
            ok(1)),
        with("DATA padded with nothing", "RFC 9113, 6.1", open(1, &head()),
            body(ends, &padded(&tonic(), 0)), ok(1)),
        with("DATA of nothing but padding", "RFC 9113, 6.1", open(1, &head()),
            [body(flag::PADDED, &padded(b"", 9)), last(1)].concat(), ok(1)),
        with("padded HEADERS with priority", "RFC 9113, 6.2",
            headers(1, opens | flag::PRIORITY, &padded(&[b"\0\0\0\0\x10", &*head()].concat(), 3)),
            last(1), ok(1)),
        with("DATA with as much padding as payload", "RFC 9113, 6.1", open(1, &head()),
            body(ends, b"\x05xxxx"), wrong),
        with("DATA with more padding than payload", "RFC 9113, 6.1", open(1, &head()),
            body(ends, b"\xffxxxx"), wrong),
        with("HEADERS with more padding than payload", "RFC 9113, 6.2",
            headers(1, opens, b"\xff\x83"), vec![], wrong),
        with("DATA without the length of its padding", "RFC 9113, 4.2", open(1, &head()),
            body(ends, b""), Reaction::Refused(1)),
        with("HEADERS without the length of their padding", "RFC 9113, 4.2", headers(1, opens, b""),
            vec![], Reaction::Closed),
    ]
}

fn priorities_and_pushes() -> Vec<Case> {
    use Reaction::Ignored;
    let wrong = goes(code::PROTOCOL_ERROR);
    vec![
        case("PRIORITY on an idle stream", "RFC 9113, 5.3.2", &[priority(7, 0)], Ignored),
        case("PRIORITY that depends on an idle stream", "RFC 9113, 5.3.2",
            &[priority(7, 9), hello(1)], ok(1)),
        case("PRIORITY in a call", "RFC 9113, 5.3.2", &[open(1, &head()), priority(1, 0), last(1)],
            ok(1)),
        case("PRIORITY on a server's stream", "RFC 9113, 5.3.2", &[priority(2, 0)], Ignored),
        case("HEADERS with priority", "RFC 9113, 6.2",
            &[headers(1, flag::END_HEADERS | flag::PRIORITY,
                    &[b"\x80\0\0\0\xff", &*head()].concat()), last(1)], ok(1)),
        case("PRIORITY_UPDATE", "RFC 9218, 7.1", &[frame(0x10, 0, 0, b"\0\0\0\x01u=1"), hello(1)],
            ok(1)),
        case("a client that pushes", "RFC 9113, 8.4", &[chat(1), push_promise(1, 2, &head())],
            wrong),
        case("a client that pushes on its own stream", "RFC 9113, 8.4",
            &[chat(1), push_promise(1, 3, &head())], wrong),
        case("a client that pushes on stream 0", "RFC 9113, 6.6", &[push_promise(0, 2, &head())],
            wrong),
        case("a client that pushes on an idle stream", "RFC 9113, 8.4",
            &[push_promise(1, 2, &head())], wrong),
    ]
}

fn good_windows() -> Vec<Case> {
    const SOURCE: &str = "RFC 9113, 6.9";
    let window = |size| settings(&[(setting::INITIAL_WINDOW_SIZE, size)]);
    // A stream that has a reply to send and may not.
    let stuck = || [chat(1), says(1)].concat();
    vec![
        case("WINDOW_UPDATE for the connection", SOURCE, &[window_update(0, 1)], Reaction::Ignored),
        case("the reserved bit of WINDOW_UPDATE is ignored", SOURCE,
            &[window_update(0, 1 | 1 << 31)], Reaction::Ignored),
        case("the largest WINDOW_UPDATE", SOURCE,
            &[window_update(0, 0x7fff_ffff - 65_535), hello(1)], ok(1)),
        case("a reply waits for its stream's window", SOURCE,
            &[window(0), hello(1), window_update(1, 100)], ok(1)),
        case("a reply goes out byte for byte", SOURCE,
            &[vec![window(0), hello(1)], vec![window_update(1, 1); 18]].concat(), ok(1)),
        case("a reply waits for a larger initial window", "RFC 9113, 6.9.2",
            &[window(0), hello(1), window(100)], ok(1)),
        case("a window under zero recovers", "RFC 9113, 6.9.2",
            &[window(18), hello(1), window(0), window_update(1, 100)], ok(1)),
        case("a reply that waits holds up no other call", "RFC 9113, 5.2.1",
            &[window(0), stuck(), hello(3), window_update(3, 100)], ok(3)),
        case("a request that waits holds up no other call", "RFC 9113, 5",
            &[open(1, &head()), data(1, 0, &tonic()[..7]), hello(3)], ok(3)),
        case("a request that nobody reads holds up no other call", "RFC 9113, 5.2.1",
            &[window(0), stuck(), data(1, 0, &[0; 16_384]).repeat(3), hello(3),
                window_update(3, 100)], ok(3)),
        case("calls in turns", "RFC 9113, 5",
            &[chat(1), chat(3), says(1), says(3), says(1), last(3)], replies(3, 2)),
    ]
}

fn bad_windows() -> Vec<Case> {
    const SOURCE: &str = "RFC 9113, 6.9";
    const OVERFLOW: &str = "RFC 9113, 6.9.1";
    let wrong = goes(code::FLOW_CONTROL_ERROR);
    let zero = settings(&[(setting::INITIAL_WINDOW_SIZE, 0)]);
    // The server cannot send the first reply, so it reads no further.
    let unread = |stream, frames| [chat(stream), data(stream, 0, &tonic()),
        data(stream, 0, &[0; 16_000]).repeat(frames)].concat();
    let streams = (1..50).step_by(2).map(|stream| unread(stream, 4));
    vec![
        case("WINDOW_UPDATE of nothing", SOURCE, &[window_update(0, 0)],
            goes(code::PROTOCOL_ERROR)),
        case("WINDOW_UPDATE of nothing for a stream", SOURCE, &[chat(1), window_update(1, 0)],
            Reaction::Refused(1)),
        case("a connection's window over 2^31-1", OVERFLOW, &[window_update(0, 0x7fff_ffff)],
            wrong),
        case("a connection's window over 2^31-1 in two steps", OVERFLOW,
            &[window_update(0, 1 << 30), window_update(0, 1 << 30)], wrong),
        case("a stream's window over 2^31-1", OVERFLOW, &[chat(1), window_update(1, 0x7fff_ffff)],
            Reaction::Reset(1, code::FLOW_CONTROL_ERROR)),
        case("DATA beyond a stream's window", OVERFLOW, &[zero.clone(), unread(1, 5)],
            Reaction::Refused(1)),
        case("DATA beyond the connection's window", OVERFLOW,
            &iter::once(zero).chain(streams).collect::<Vec<_>>(), wrong),
    ]
}

fn pings() -> Vec<Case> {
    const SOURCE: &str = "RFC 9113, 6.7";
    let payload = *b"\x01\x23\x45\x67\x89\xab\xcd\xef";
    let pong = Reaction::Pong(payload);
    vec![
        case("PING is answered", SOURCE, &[ping(payload)], pong),
        case("each PING is answered", SOURCE, &[ping([0; 8]), ping([1; 8]), ping(payload)], pong),
        case("PING in a call is answered", SOURCE, &[open(1, &head()), ping(payload), last(1)],
            pong),
        case("PING while all replies wait is answered", SOURCE,
            &[settings(&[(setting::INITIAL_WINDOW_SIZE, 0)]), hello(1), ping(payload)], pong),
        case("flags that PING does not have are ignored", "RFC 9113, 4.1",
            &[frame(kind::PING, 0xfe, 0, &payload)], pong),
        case("an answer to no PING is ignored", SOURCE,
            &[frame(kind::PING, flag::ACK, 0, &payload)], Reaction::Ignored),
    ]
}

fn unknown_frames() -> Vec<Case> {
    const SOURCE: &str = "RFC 9113, 5.5";
    let unknown = |kind, stream| frame(kind, 0xff, stream, b"anything");
    vec![
        case("an unknown frame", SOURCE, &[unknown(0xbe, 0)], Reaction::Ignored),
        case("an unknown frame without payload", SOURCE, &[frame(0xff, 0, 0, b"")],
            Reaction::Ignored),
        case("an unknown frame of the largest size", SOURCE, &[frame(0xbe, 0, 0, &[0; 16_384])],
            Reaction::Ignored),
        case("an unknown frame on an idle stream", SOURCE, &[unknown(0xbe, 1), hello(1)], ok(1)),
        case("an unknown frame in a call", SOURCE, &[open(1, &head()), unknown(0xbe, 1), last(1)],
            ok(1)),
        case("an unknown frame after a call", SOURCE, &[hello(1), unknown(0xbe, 1)], ok(1)),
        case("ALTSVC from a client", "RFC 7838, 4", &[unknown(0x0a, 0)], Reaction::Ignored),
        case("ORIGIN from a client", "RFC 8336, 2.1", &[unknown(0x0c, 0)], Reaction::Ignored),
        case("flags that DATA and HEADERS do not have are ignored", "RFC 9113, 4.1",
            &[headers(1, flag::END_HEADERS | 0xc2, &head()),
                data(1, flag::END_STREAM | 0xf6, &tonic())], ok(1)),
    ]
}

fn goaways() -> Vec<Case> {
    const SOURCE: &str = "RFC 9113, 6.8";
    let open = || open(1, &head());
    vec![
        case("a call that is open at GOAWAY is finished", SOURCE,
            &[open(), goaway(0, code::NO_ERROR, b""), last(1)], Reaction::Finished(1)),
        case("GOAWAY may explain itself", SOURCE,
            &[open(), goaway(0, code::NO_ERROR, b"enough"), last(1)], Reaction::Finished(1)),
        case("GOAWAY with an unknown code", "RFC 9113, 7",
            &[open(), goaway(0, 0xdead_beef, b""), last(1)], Reaction::Finished(1)),
        case("GOAWAY of a stream that never was", SOURCE,
            &[open(), goaway(0x7fff_ffff, code::NO_ERROR, b""), last(1)], Reaction::Finished(1)),
        case("GOAWAY twice", SOURCE,
            &[open(), goaway(0x7fff_ffff, code::NO_ERROR, b""), goaway(0, code::NO_ERROR, b""),
                last(1)], Reaction::Finished(1)),
    ]
}

fn floods() -> Vec<Case> {
    const FRAMES: &str = "RFC 9113, 10.5; README, limits";
    let odd = || (1..).step_by(2);
    let flood = |name, frame: Vec<u8>| case(name, FRAMES, &[frame.repeat(12_000)], Reaction::Closed);
    // As short as can be: three fields of the static table (RFC 7541, A).
    let reset = |stream| [open(stream, b"\x83\x86\x84"), rst_stream(stream, code::CANCEL)].concat();
    let rapid: Vec<_> = odd().take(2000).map(reset).collect();
    let full: Vec<_> = odd().take(201).map(chat).chain(odd().take(200).map(end)).collect();
    let large = |bytes: usize| head_and("x-large", "l".repeat(bytes));
    let rest = large(200_000).chunks(16_000).flat_map(|part| continuation(1, 0, part)).collect();
    vec![
        flood("a flood of PING", ping([0; 8])),
        flood("a flood of SETTINGS", settings(&[])),
        flood("a flood of PRIORITY", priority(1, 0)),
        flood("a flood of unknown frames", frame(0xbe, 0, 0, b"")),
        case("streams that are reset at once", FRAMES, &rapid, goes(code::ENHANCE_YOUR_CALM)),
        case("stream 201 at once", "RFC 9113, 5.1.2", &full,
            Reaction::Reset(401, code::REFUSED_STREAM)),
        case("headers over 16 KiB", "RFC 6585, 5",
            &[headers(1, flag::END_STREAM, &large(15_000)),
                continuation(1, flag::END_HEADERS, &field("x", "l".repeat(3000)))],
            Reaction::Answer { stream: 1, status: 431, grpc: None, messages: 0 }),
        case("headers of 200 KB", "RFC 9113, 10.5.1", &[headers(1, 0, b""), rest],
            Reaction::Closed),
        case("headers without an end", "RFC 9113, 10.5.1",
            &[headers(1, 0, &head()), continuation(1, 0, &field("x", "y")).repeat(1000)],
            Reaction::Closed),
    ]
}
