//! What gRPC, and the README's limits, require of a server.

use super::*;

pub(super) fn cases() -> Vec<Case> {
    [
        content_types(),
        methods(),
        paths(),
        timeouts(),
        cardinality(),
        framing(),
        messages(),
        encodings(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn content_types() -> Vec<Case> {
    const SOURCE: &str = "gRPC over HTTP/2, Requests";
    let with = |(name, value), reaction| {
        case(name, SOURCE, &[call(1, &head_with("content-type", value), &tonic())], reaction)
    };
    let accepted = [
        ("application/grpc+proto is taken", "application/grpc+proto"),
        ("application/grpc with a parameter is taken", "application/grpc;charset=utf-8"),
        ("application/grpc+proto with a parameter is taken",
            "application/grpc+proto; charset=utf-8"),
    ];
    let refused = [
        ("application/json is refused", "application/json"),
        ("text/plain is refused", "text/plain"),
        ("application/grpc-web is refused", "application/grpc-web"),
        ("application/grpc-web+proto is refused", "application/grpc-web+proto"),
        ("application/grpc+json is refused", "application/grpc+json"),
        ("application/grpcs is refused", "application/grpcs"),
        ("application/octet-stream is refused", "application/octet-stream"),
        ("an empty content-type is refused", ""),
    ];
    let json = call(1, &head_with("content-type", "application/json"), &tonic());
    let none = [call(1, &head_without("content-type"), &tonic())];
    (accepted.map(|one| with(one, ok(1))).into_iter())
        .chain(refused.map(|one| with(one, fails(415, 3))))
        .chain([
            case("no content-type is refused", SOURCE, &none, fails(415, 3)),
            case("a refusal is gRPC", SOURCE, &[json],
                Reaction::Says(1, "content-type", "application/grpc")),
        ])
        .collect()
}

fn methods() -> Vec<Case> {
    const SOURCE: &str = "gRPC over HTTP/2, Requests";
    let with = |method| call(1, &head_with(":method", method), &tonic());
    let refused = |name, method| case(name, SOURCE, &[with(method)], fails(405, 13));
    let bare = headers(1, flag::END_HEADERS | flag::END_STREAM, &head_with(":method", "GET"));
    let connect = block([(":method", "CONNECT"), (":authority", "echo")]);
    vec![
        refused("GET is not allowed", "GET"),
        refused("HEAD is not allowed", "HEAD"),
        refused("PUT is not allowed", "PUT"),
        refused("DELETE is not allowed", "DELETE"),
        refused("PATCH is not allowed", "PATCH"),
        refused("OPTIONS is not allowed", "OPTIONS"),
        refused("TRACE is not allowed", "TRACE"),
        refused("a method that nobody knows is not allowed", "GREET"),
        refused("post in lower case is not POST", "post"),
        case("GET without a body is not allowed", SOURCE, &[bare], fails(405, 13)),
        case("CONNECT is not allowed", "README, limits", &[open(1, &connect)], fails(405, 13)),
        case("405 says what is allowed", "RFC 9110, 15.5.6", &[with("GET")],
            Reaction::Says(1, "allow", "POST")),
        case("405 is gRPC", SOURCE, &[with("GET")],
            Reaction::Says(1, "content-type", "application/grpc")),
    ]
}

fn paths() -> Vec<Case> {
    const SOURCE: &str = "gRPC, statuscodes.md";
    let nowhere = |name, path| {
        case(name, SOURCE, &[call(1, &head_with(":path", path), &tonic())], fails(200, 12))
    };
    vec![
        nowhere("an unknown method", "/grpc.examples.echo.Echo/UnaryOhce"),
        nowhere("an unknown service", "/grpc.examples.echo.Stranger/UnaryEcho"),
        nowhere("a service without its package", "/Echo/UnaryEcho"),
        nowhere("a method in other case", "/grpc.examples.echo.Echo/unaryEcho"),
        nowhere("a service in other case", "/grpc.examples.echo.echo/UnaryEcho"),
        nowhere("no service", "/"),
        nowhere("no method", "/grpc.examples.echo.Echo"),
        nowhere("an empty method", "/grpc.examples.echo.Echo/"),
        nowhere("an empty service", "//UnaryEcho"),
        nowhere("two slashes first", "//grpc.examples.echo.Echo/UnaryEcho"),
        nowhere("a slash at the end", "/grpc.examples.echo.Echo/UnaryEcho/"),
        nowhere("a path too deep", "/api/grpc.examples.echo.Echo/UnaryEcho"),
        nowhere("a path with dots", "/grpc.examples.echo.Echo/../grpc.examples.echo.Echo/UnaryEcho"),
        nowhere("an encoded path", "/grpc.examples.echo.Echo/%55naryEcho"),
    ]
}

fn timeouts() -> Vec<Case> {
    const SOURCE: &str = "gRPC over HTTP/2, Requests: Timeout";
    let with = |name, value, reaction| {
        case(name, SOURCE, &[call(1, &head_and("grpc-timeout", value), &tonic())], reaction)
    };
    let open = |path, value| {
        open(1, &[head_with(":path", path), field("grpc-timeout", value)].concat())
    };
    let late = fails(200, 4);
    let wrong = fails(200, 3);
    vec![
        with("a timeout in hours", "1H", ok(1)),
        with("a timeout in minutes", "1M", ok(1)),
        with("a timeout in seconds", "20S", ok(1)),
        with("a timeout in milliseconds", "20000m", ok(1)),
        with("a timeout in microseconds", "20000000u", ok(1)),
        with("the longest timeout", "99999999H", ok(1)),
        with("a timeout with zeros before it", "00000020S", ok(1)),
        with("a timeout of nothing", "0S", late),
        with("a timeout of no nanoseconds", "0n", late),
        with("a timeout of nine digits", "100000000n", wrong),
        with("a timeout without a number", "S", wrong),
        with("a timeout without a unit", "20", wrong),
        with("an empty timeout", "", wrong),
        with("a timeout in days", "1D", wrong),
        with("a timeout in h", "1h", wrong),
        with("a timeout under zero", "-1S", wrong),
        with("a timeout with a plus", "+1S", wrong),
        with("a timeout with a point", "1.5S", wrong),
        with("a timeout with a space", "1 S", wrong),
        with("a timeout in two units", "1H1S", wrong),
        case("a deadline ends a call that waits for its request", SOURCE, &[open(HELLO, "50m")],
            late),
        case("a deadline ends an upload", SOURCE, &[open(HELLO, "50m"), data(1, 0, &tonic()[..7])],
            late),
        case("a deadline ends a conversation", SOURCE, &[open(CHAT, "50m")], late),
        case("a deadline ends a conversation that has begun", SOURCE, &[open(CHAT, "50m"), says(1)],
            Reaction::Answer { stream: 1, status: 200, grpc: Some(4), messages: 1 }),
    ]
}

fn cardinality() -> Vec<Case> {
    const SOURCE: &str = "gRPC, statuscodes.md";
    let no_body = |path| {
        headers(1, flag::END_HEADERS | flag::END_STREAM, &head_with(":path", path))
    };
    let twice = |path| call(1, &head_with(":path", path), &tonic().repeat(2));
    vec![
        case("one message to a unary method", SOURCE, &[hello(1)], ok(1)),
        case("one message to a server-streaming method", SOURCE,
            &[call(1, &head_with(":path", MANY), &tonic())], replies(1, 1)),
        case("no message to a unary method", SOURCE, &[no_body(HELLO)], fails(200, 12)),
        case("no message to a unary method, in DATA", SOURCE, &[call(1, &head(), b"")],
            fails(200, 12)),
        case("no message to a server-streaming method", SOURCE, &[no_body(MANY)], fails(200, 12)),
        case("two messages to a unary method", SOURCE, &[twice(HELLO)], fails(200, 12)),
        case("two messages to a server-streaming method", SOURCE, &[twice(MANY)], fails(200, 12)),
        case("a second message in its own frame", SOURCE, &[open(1, &head()), says(1), last(1)],
            fails(200, 12)),
        case("no message in a conversation", SOURCE, &[no_body(CHAT)], replies(1, 0)),
        case("two messages in a conversation", SOURCE, &[twice(CHAT)], replies(1, 2)),
        case("the replies before a refusal stand", SOURCE,
            &[chat(1), data(1, flag::END_STREAM, &[tonic(), message(0, b"\x0a\x04fail")].concat())],
            Reaction::Answer { stream: 1, status: 200, grpc: Some(3), messages: 1 }),
    ]
}

fn framing() -> Vec<Case> {
    const SOURCE: &str = "gRPC over HTTP/2, Requests: Length-Prefixed-Message";
    let with = |name, body: &[u8], reaction| {
        case(name, SOURCE, &[call(1, &head(), body)], reaction)
    };
    let in_chat = |name, body: &[u8], reaction| {
        case(name, SOURCE, &[chat(1), data(1, flag::END_STREAM, body)], reaction)
    };
    let bytes: Vec<_> = tonic().iter().map(|byte| data(1, 0, &[*byte])).collect();
    let too_large = |length: u32| {
        [open(1, &head()), data(1, 0, &[&[0], length.to_be_bytes().as_slice()].concat())]
    };
    let large: Vec<_> = named(60_000).chunks(16_384).map(|part| data(1, 0, part)).collect();
    vec![
        with("half a prefix", &tonic()[..3], fails(200, 13)),
        with("a prefix without its message", &tonic()[..5], fails(200, 13)),
        with("half a message", &tonic()[..8], fails(200, 13)),
        with("a message and half a prefix", &[&*tonic(), b"\0\0"].concat(), fails(200, 13)),
        in_chat("half a message in a conversation", &tonic()[..8], fails(200, 13)),
        in_chat("half a message after a whole one", &[&*tonic(), &tonic()[..8]].concat(),
            Reaction::Answer { stream: 1, status: 200, grpc: Some(13), messages: 1 }),
        case("a message byte for byte", SOURCE,
            &[vec![open(1, &head())], bytes, vec![end(1)]].concat(), ok(1)),
        case("empty frames around a message", SOURCE,
            &[open(1, &head()), data(1, 0, b""), says(1), data(1, 0, b""), end(1)], ok(1)),
        in_chat("three messages in one frame", &tonic().repeat(3), replies(1, 3)),
        case("messages cut anywhere", SOURCE,
            &[vec![chat(1)], tonic().repeat(4).chunks(7).map(|part| data(1, 0, part)).collect(),
                vec![end(1)]].concat(), replies(1, 4)),
        case("a message of 60000 bytes arrives", SOURCE,
            &[vec![open(1, &head())], large, vec![end(1)]].concat(), ok(1)),
        case("a message over 64 KiB is refused before it comes", "README, limits",
            &too_large(65_537), fails(200, 8)),
        case("a message of 4 GiB is refused before it comes", "README, limits",
            &too_large(u32::MAX), fails(200, 8)),
        case("a message over 64 KiB in a conversation", "README, limits",
            &[chat(1), data(1, 0, b"\0\0\x01\0\x01")], fails(200, 8)),
    ]
}

fn messages() -> Vec<Case> {
    const SOURCE: &str = "gRPC, statuscodes.md";
    let with = |name, payload: &[u8], reaction| {
        case(name, SOURCE, &[call(1, &head(), &message(0, payload))], reaction)
    };
    vec![
        with("an empty message is a message", b"", ok(1)),
        with("an unknown field is ignored", b"\x0a\x05tonic\x78\x01", ok(1)),
        with("the last of two names counts", b"\x0a\0\x0a\x05tonic", ok(1)),
        with("a name that is cut off", b"\x0a\x09tonic", fails(200, 13)),
        with("a name that is a number", b"\x08\x01", fails(200, 13)),
        with("a name that is no UTF-8", b"\x0a\x02\xc3\x28", fails(200, 13)),
        with("an unknown wire type", b"\x0f", fails(200, 13)),
        with("field 0", b"\x02\x01x", fails(200, 13)),
        with("a tag without an end", &[0xff; 11], fails(200, 13)),
    ]
}

fn encodings() -> Vec<Case> {
    const SOURCE: &str = "gRPC, compression.md";
    const GZIP: &[u8] = b"\x1f\x8b\x08\0\0\0\0\0\x02\x03\
        \xe3\x62\x2d\xc9\xcf\xcb\x4c\x06\0\xff\xb6\x0b\x24\x07\0\0\0";
    // RFC 8878, 3.1.1: one raw block.
    const ZSTD: &[u8] = b"\x28\xb5\x2f\xfd\x20\x07\x39\0\0\x0a\x05tonic";
    // One block of 100000 times the same byte.
    const BOMB: &[u8] = b"\x28\xb5\x2f\xfd\xa0\xa0\x86\x01\0\x03\x35\x0ca";
    let with = |name, encoding: &str, body: &[u8], reaction| {
        case(name, SOURCE, &[call(1, &head_and("grpc-encoding", encoding), body)], reaction)
    };
    let flagged = |name, flag| {
        case(name, SOURCE, &[call(1, &head(), &message(flag, TONIC))], fails(200, 13))
    };
    vec![
        with("no encoding by name", "identity", &tonic(), ok(1)),
        with("an unknown encoding", "snappy", &message(1, TONIC), fails(200, 12)),
        with("an unknown encoding that is not used", "snappy", &tonic(), fails(200, 12)),
        with("which encodings are known", "snappy", &tonic(),
            Reaction::Says(1, "grpc-accept-encoding", "identity,deflate,gzip,zstd")),
        with("a message in gzip", "gzip", &message(1, GZIP), ok(1)),
        with("gzip is answered with gzip", "gzip", &message(1, GZIP),
            Reaction::Says(1, "grpc-encoding", "gzip")),
        with("gzip that is not used", "gzip", &tonic(), ok(1)),
        with("gzip that is none", "gzip", &message(1, TONIC), fails(200, 13)),
        with("gzip that is cut off", "gzip", &message(1, &GZIP[..20]), fails(200, 13)),
        with("a message in zstd", "zstd", &message(1, ZSTD), ok(1)),
        with("zstd that is none", "zstd", &message(1, TONIC), fails(200, 13)),
        with("a small message that unpacks to a large one", "zstd", &message(1, BOMB),
            fails(200, 8)),
        case("which encodings are known, after a good call", SOURCE, &[hello(1)],
            Reaction::Says(1, "grpc-accept-encoding", "identity,deflate,gzip,zstd")),
        flagged("a compressed message without an encoding", 1),
        flagged("compression flag 2", 2),
        flagged("compression flag 255", 255),
    ]
}

/// Cases that the server ends after `--handshake-timeout`, `--stall-timeout`, `--unary-timeout` or
/// `--stream-idle-timeout`, which must be well under [`crate::PATIENCE`].
pub fn stalls() -> Vec<Case> {
    use Reaction::Closed;
    const HANDSHAKE: &str = "README, handshake timeout";
    const STALL: &str = "README, stall timeout";
    let half = |name, frame: Vec<u8>| {
        case(name, STALL, &[chat(1), frame[..frame.len() / 2].to_vec()], Closed)
    };
    let window = settings(&[(setting::INITIAL_WINDOW_SIZE, 0)]);
    vec![
        bytes("a peer that says nothing", HANDSHAKE, b"", Closed),
        bytes("half a preface", HANDSHAKE, &magic()[..12], Closed),
        bytes("a preface without SETTINGS", HANDSHAKE, magic(), Closed),
        bytes("a preface with half of its SETTINGS", HANDSHAKE, &PREFACE[..28], Closed),
        half("half a header", header(8, kind::PING, 0, 0)),
        half("half a PING", ping(*b"too slow")),
        half("half a DATA", data(1, 0, &[0; 100])),
        half("half a HEADERS", open(3, &head())),
        half("half an unknown frame", frame(0xbe, 0, 0, &[0; 100])),
        case("headers without their CONTINUATION", STALL, &[headers(1, 0, &head())], Closed),
        case("headers whose CONTINUATION is not the last", STALL,
            &[headers(1, 0, b""), continuation(1, 0, &head())], Closed),
        case("a reply that the peer never lets go", STALL, &[window, hello(1)],
            Reaction::Refused(1)),
        case("a unary call whose request never begins", "README, unary timeout",
            &[open(1, &head())], fails(200, 4)),
        case("a unary call whose request never ends", "README, unary timeout",
            &[open(1, &head()), says(1)], fails(200, 4)),
        case("a conversation without a word", "README, stream idle timeout", &[chat(1)],
            fails(200, 4)),
    ]
}
