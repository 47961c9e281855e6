//! The limits of a connection, as the server announces them.

use std::collections::BTreeMap;

use harness::{PREFACE, start, within};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

#[tokio::test]
async fn the_limits_of_a_connection_are_announced() {
    let server = start(echo::APP, &[]).await;
    let mut stream = TcpStream::connect(server.addr).await.expect("a connection");
    stream.write_all(PREFACE).await.expect("sent");

    // RFC 9113, 4.1 and 6.5: nine bytes of header, the first three of them the length, and then six
    // bytes for each setting.
    let mut header = [0; 9];
    within(stream.read_exact(&mut header))
        .await
        .expect("a frame");
    let [a, b, length, kind, ..] = header;
    assert_eq!((a, b, kind), (0, 0, 4), "a short SETTINGS");
    let mut payload = vec![0; length.into()];
    within(stream.read_exact(&mut payload))
        .await
        .expect("its settings");
    let settings: BTreeMap<u16, u32> = payload
        .chunks(6)
        .map(|setting| {
            let (name, value) = setting.split_at(2);
            let name = u16::from_be_bytes(name.try_into().expect("two bytes"));
            (
                name,
                u32::from_be_bytes(value.try_into().expect("four bytes")),
            )
        })
        .collect();
    assert_eq!(settings[&3], 200, "streams at once");
    assert_eq!(
        settings[&4],
        64 * 1024,
        "bytes of a request that nobody has read"
    );
    assert_eq!(settings[&6], 16 * 1024, "bytes of headers");
}
