use super::pieces;
use crate::wire::framing::{Splitter, message_length};

/// The longest payload that is not refused.
const LONGEST: usize = 300;

/// A stream of gRPC messages or HTTP/2 frames, cut anywhere, has the units that it has in one piece, and the first
/// that is refused stands where it does.
///
/// Input: which of the two, four cuts, the stream.
pub fn framing(data: &[u8]) {
    let Some((&[kind, ref cuts @ ..], stream)) = data.split_first_chunk::<5>() else {
        return;
    };
    match kind % 2 {
        0 => check(Splitter::<5>::new(), 0, cuts, stream, message_length),
        _ => check(
            Splitter::<9>::after(24),
            24,
            cuts,
            stream,
            |&[a, b, c, ..]| u32::from_be_bytes([0, a, b, c]) as usize,
        ),
    }
}

/// The units of a stream, as they are counted with all of it at hand.
#[derive(Debug)]
struct Units {
    complete: u64,
    between: bool,
    /// Where one begins that is refused.
    refused: Option<usize>,
}

fn units<const HEADER: usize>(
    first: usize,
    stream: &[u8],
    length: fn(&[u8; HEADER]) -> usize,
) -> Units {
    let mut end = first;
    // The first unit may have no header.
    let mut complete = u64::from(first > 0 && first <= stream.len());
    loop {
        let refused = None;
        let Some(rest) = stream.get(end..) else {
            return Units {
                complete,
                between: false,
                refused,
            };
        };
        let Some(header) = rest.first_chunk() else {
            return Units {
                complete,
                between: rest.is_empty(),
                refused,
            };
        };
        let payload = length(header);
        if payload > LONGEST {
            return Units {
                complete,
                between: false,
                refused: Some(end),
            };
        }
        complete += u64::from(rest.len() >= HEADER + payload);
        end += HEADER + payload;
    }
}

fn check<const HEADER: usize>(
    mut framing: Splitter<HEADER>,
    first: usize,
    cuts: &[u8],
    stream: &[u8],
    length: fn(&[u8; HEADER]) -> usize,
) {
    let expected = units(first, stream, length);
    let mut fed = 0;
    for piece in pieces(cuts, stream) {
        let complete = framing.complete();
        let outcome = framing.feed(piece, |number, header| {
            assert!(number >= complete, "{number} has been complete");
            Some(length(header))
                .filter(|length| *length <= LONGEST)
                .ok_or(())
        });
        if let Err((begin, ())) = outcome {
            let refused = expected.refused.expect("a unit to refuse");
            assert_eq!(begin, refused.saturating_sub(fed), "{expected:?}");
            assert!(refused < fed + piece.len(), "refused before it came");
            assert_eq!(framing.complete(), expected.complete);
            return;
        }
        fed += piece.len();
    }
    assert_eq!(expected.refused, None);
    assert_eq!(framing.complete(), expected.complete);
    // A first unit of which nothing has come is half done, too.
    assert_eq!(framing.between(), expected.between);
}
