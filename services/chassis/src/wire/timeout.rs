//! How long a call may take.

use std::time::Duration;

use http::{HeaderMap, HeaderName};
use tonic::Status;

const TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// The time that the client gives the call, from `grpc-timeout`: one to eight digits and a unit.
/// <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>
pub(crate) fn of(headers: &HeaderMap) -> Result<Option<Duration>, Status> {
    let Some(value) = headers.get(&TIMEOUT) else {
        return Ok(None);
    };
    parse(value.as_bytes()).map(Some).ok_or_else(|| {
        Status::invalid_argument(format!(
            "grpc-timeout: {:.20} is not one to eight digits and one of H, M, S, m, u, n",
            String::from_utf8_lossy(value.as_bytes())
        ))
    })
}

fn parse(value: &[u8]) -> Option<Duration> {
    let (unit, digits) = value.split_last()?;
    if !(1..=8).contains(&digits.len()) || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number = std::str::from_utf8(digits).ok()?.parse().ok()?;
    Some(match unit {
        b'H' => Duration::from_secs(number) * 3600,
        b'M' => Duration::from_secs(number) * 60,
        b'S' => Duration::from_secs(number),
        b'm' => Duration::from_millis(number),
        b'u' => Duration::from_micros(number),
        b'n' => Duration::from_nanos(number),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::parse;

    #[test]
    fn every_unit_is_read_and_nothing_else() {
        for (value, nanos) in [
            ("1H", 3_600_000_000_000),
            ("1M", 60_000_000_000),
            ("1S", 1_000_000_000),
            ("1m", 1_000_000),
            ("1u", 1000),
            ("1n", 1),
            ("00000000n", 0),
            ("99999999H", 359_999_996_400_000_000_000),
        ] {
            let parsed = parse(value.as_bytes()).expect(value);
            assert_eq!(parsed.as_nanos(), nanos, "{value}");
        }
        for value in [
            "",
            "S",
            "1",
            "1s",
            "1h",
            "-1S",
            "+1S",
            " 1S",
            "1 S",
            "1.5S",
            "1SS",
            "123456789n",
            "1\u{662}S",
        ] {
            assert_eq!(parse(value.as_bytes()), None, "{value:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_as_the_protocol_says(value in any::<Vec<u8>>()) {
            let legal = matches!(value.split_last(), Some((unit, digits))
                if (1..=8).contains(&digits.len())
                && digits.iter().all(|digit| b"0123456789".contains(digit))
                && b"HMSmun".contains(unit));
            prop_assert_eq!(parse(&value).is_some(), legal);
        }

        #[test]
        fn any_legal_time_is_its_number_of_units(number in 0_u32..100_000_000, unit in 0_usize..3) {
            let (letter, nanos) = [('S', 1_000_000_000), ('m', 1_000_000), ('u', 1000)][unit];
            let parsed = parse(format!("{number}{letter}").as_bytes());
            prop_assert_eq!(parsed, Some(Duration::from_nanos(u64::from(number) * nanos)));
        }
    }
}
