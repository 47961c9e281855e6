//! Where the units of a byte stream begin and end: HTTP/2 frames, and the gRPC messages inside them.

/// Follows units of `HEADER` bytes and a payload, whose length the header says, cut at any place. It
/// keeps no payload.
#[derive(Debug)]
pub(crate) struct Splitter<const HEADER: usize> {
    header: [u8; HEADER],
    filled: usize,
    payload_left: usize,
    complete: u64,
}

impl<const HEADER: usize> Splitter<HEADER> {
    pub(crate) fn new() -> Self {
        Self {
            header: [0; HEADER],
            filled: 0,
            payload_left: 0,
            complete: 0,
        }
    }

    /// For a stream whose first unit is `length` bytes without a header.
    pub(crate) fn after(length: usize) -> Self {
        Self {
            filled: HEADER,
            payload_left: length,
            ..Self::new()
        }
    }

    /// Takes the next bytes. `length` says of each unit, by its number from 0 and its header, how long the
    /// payload is; if it refuses one, the error comes with how many of these bytes stand before that unit.
    pub(crate) fn feed<E>(
        &mut self,
        bytes: &[u8],
        mut length: impl FnMut(u64, &[u8; HEADER]) -> Result<usize, E>,
    ) -> Result<(), (usize, E)> {
        let mut rest = bytes;
        while !rest.is_empty() {
            if self.filled < HEADER {
                let begin = match self.filled {
                    0 => bytes.len() - rest.len(),
                    _ => 0,
                };
                let header = match rest.split_first_chunk() {
                    // Whole, as most are.
                    Some((header, after)) if self.filled == 0 => {
                        rest = after;
                        header
                    }
                    _ => {
                        let taken = rest.len().min(HEADER - self.filled);
                        let (more, after) = rest.split_at(taken);
                        self.header[self.filled..][..taken].copy_from_slice(more);
                        self.filled += taken;
                        rest = after;
                        if self.filled < HEADER {
                            break;
                        }
                        &self.header
                    }
                };
                self.payload_left =
                    length(self.complete, header).map_err(|refused| (begin, refused))?;
                self.filled = HEADER;
            }
            let taken = rest.len().min(self.payload_left);
            rest = &rest[taken..];
            self.payload_left -= taken;
            if self.payload_left == 0 {
                self.filled = 0;
                self.complete += 1;
            }
        }
        Ok(())
    }

    /// How many units have ended.
    pub(crate) fn complete(&self) -> u64 {
        self.complete
    }

    /// Whether no unit is half done.
    pub(crate) fn between(&self) -> bool {
        self.filled == 0
    }
}

/// The gRPC messages in a body: each is a flag byte, a big-endian length of four bytes, and that many
/// bytes of payload. <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>
pub(crate) type Messages = Splitter<5>;

/// How long the message is that begins with these bytes.
pub(crate) fn message_length(prefix: &[u8; 5]) -> usize {
    let &[_, a, b, c, d] = prefix;
    u32::from_be_bytes([a, b, c, d]) as usize
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use proptest::prelude::*;

    use super::Splitter;

    /// Units with a header of two bytes, of which one is their length.
    fn stream(payloads: &[Vec<u8>]) -> Vec<u8> {
        let unit = |payload: &Vec<u8>| [&[7, payload.len() as u8], payload.as_slice()].concat();
        payloads.iter().flat_map(unit).collect()
    }

    proptest! {
        #[test]
        fn any_units_are_counted_wherever_they_are_cut(
            payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 0..8),
            cuts in prop::collection::vec(1_usize..9, 1..9),
            half in 0_usize..6,
        ) {
            let mut bytes = stream(&payloads);
            bytes.extend([7, 5, 0, 0, 0, 0].iter().take(half));
            let mut splitter = Splitter::<2>::new();
            let mut rest = bytes.as_slice();
            for cut in cuts.iter().cycle() {
                let (part, left) = rest.split_at((*cut).min(rest.len()));
                splitter.feed(part, |_, [_, length]| Ok::<_, Infallible>((*length).into())).expect("no limit");
                rest = left;
                if rest.is_empty() { break; }
            }
            prop_assert_eq!(splitter.complete(), payloads.len() as u64);
            prop_assert_eq!(splitter.between(), half == 0);
        }

        #[test]
        fn any_refused_unit_is_told_apart_from_those_before(
            payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 0..8),
        ) {
            let before = stream(&payloads);
            let bytes = [before.as_slice(), &[7, 99, 1, 2]].concat();
            let refusal = Splitter::<2>::new().feed(&bytes, |_, [_, length]| match length {
                99 => Err("too long"),
                length => Ok((*length).into()),
            });
            prop_assert_eq!(refusal, Err((before.len(), "too long")));
        }
    }
}
