//! Parsers for values of settings. Each parser's error is a part of a sentence, to which clap adds the value,
//! the flag and the variable.

use std::ops::RangeInclusive;

use bytesize::ByteSize;
use humantime::Duration;
use tracing_subscriber::filter::{LevelFilter, Targets};

/// A duration of at most a year, so that adding it to a clock cannot overflow. A bare number is seconds.
pub(crate) fn period(text: &str) -> Result<Duration, String> {
    const LONGEST: std::time::Duration = std::time::Duration::from_secs(366 * 24 * 3600);
    let period: Duration = match text.parse() {
        Ok(seconds) => std::time::Duration::from_secs(seconds).into(),
        Err(_) => text
            .parse()
            .map_err(|error: humantime::DurationError| error.to_string())?,
    };
    if *period > LONGEST {
        return Err("more than a year".to_owned());
    }
    Ok(period)
}

/// A parser for a duration of at most a year that is not zero. Many write 0 for "never", which would mean
/// "at once" here.
pub fn nonzero_period(text: &str) -> Result<Duration, String> {
    match period(text)? {
        period if period.is_zero() => Err("must be more than nothing".to_owned()),
        period => Ok(period),
    }
}

/// A parser of numbers of bytes within `range`: `65536`, `64KiB` or `64Ki`, `64kB` or `64k` (of 1000).
pub fn bytes_in<T: TryFrom<u64>>(
    range: RangeInclusive<u64>,
) -> impl Fn(&str) -> Result<T, String> + Clone + Send + Sync + 'static {
    move |text| {
        let ByteSize(bytes) = text
            .parse()
            .map_err(|_| "expected a number of bytes, such as 67108864, 64MiB or 64M".to_owned())?;
        let within = range.contains(&bytes).then_some(bytes);
        within
            .and_then(|bytes| bytes.try_into().ok())
            .ok_or_else(|| {
                let (least, most) = (ByteSize(*range.start()), ByteSize(*range.end()));
                format!("must be {least} to {most}")
            })
    }
}

/// Levels by target. A bare word must be a level: `Targets` would read `warning` as the name of a target,
/// and then log nothing at all.
pub(crate) fn log_levels(text: &str) -> Result<Targets, String> {
    const LEVELS: &str = "the levels are off, error, warn, info, debug and trace";
    for part in text.split(',') {
        let (target, level) = match part.split_once('=') {
            Some((target, level)) => (Some(target), level),
            None => (None, part),
        };
        let is_level = !level.is_empty() && level.parse::<LevelFilter>().is_ok();
        match target {
            _ if is_level => {}
            Some(target) => return Err(format!("\"{level}\" of {target} is no level; {LEVELS}")),
            None if level.is_empty() => return Err(format!("an empty part; {LEVELS}")),
            None => {
                return Err(format!(
                    "\"{level}\" is no level; {LEVELS}; for one target write TARGET=LEVEL, such as {level}=debug"
                ));
            }
        }
    }
    text.parse()
        .map_err(|error: tracing_subscriber::filter::ParseError| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::{bytes_in, log_levels, nonzero_period, period};

    #[test]
    fn times_have_units_or_are_seconds() {
        for (given, milliseconds) in [
            ("30", 30_000),
            ("30s", 30_000),
            ("150ms", 150),
            ("1m 30s", 90_000),
            ("0", 0),
        ] {
            assert_eq!(
                period(given).expect(given).as_millis(),
                milliseconds,
                "{given}"
            );
        }
        for given in [
            "",
            "s",
            "-1",
            "1.5",
            "5 parsecs",
            "31622401",
            "18446744073709551616",
        ] {
            period(given).expect_err(given);
        }
        for given in ["0", "0s", "00"] {
            nonzero_period(given).expect_err(given);
        }
    }

    #[test]
    fn sizes_have_units_of_1024_or_of_1000_and_bounds() {
        let parse = bytes_in::<u32>(10..=1 << 30);
        for (given, bytes) in [
            ("10", 10),
            ("64MiB", 64 << 20),
            ("64Mi", 64 << 20),
            ("64 MiB", 64 << 20),
            ("1GiB", 1 << 30),
            ("64M", 64_000_000),
            ("64MB", 64_000_000),
            ("1.5KiB", 1536),
        ] {
            assert_eq!(parse(given), Ok(bytes), "{given}");
        }
        for (given, problem) in [
            ("9", "must be 10 B to 1.0 GiB"),
            ("1073741825", "must be 10 B to 1.0 GiB"),
            ("99999999999999999999EiB", "must be 10 B to 1.0 GiB"),
            ("", "such as"),
            ("MiB", "such as"),
            ("-1", "such as"),
            ("64 pounds", "such as"),
        ] {
            let error = parse(given).expect_err(given);
            assert!(error.contains(problem), "{given}: {error}");
        }
        let error = bytes_in::<u8>(0..=1000)("256").expect_err("what the type cannot hold");
        assert!(error.contains("must be"), "{error}");
    }

    #[test]
    fn a_word_alone_must_be_a_level() {
        for given in [
            "info",
            "WARN",
            "off",
            "info,call=off",
            "access=trace",
            "h2=debug,info",
        ] {
            log_levels(given).expect(given);
        }
        for (given, hint) in [
            ("warning", "off, error, warn, info, debug and trace"),
            ("access", "access=debug"),
            ("info,access", "access=debug"),
            ("info,h2=loud", "\"loud\" of h2"),
            ("h2=", "\"\" of h2"),
            ("info,", "an empty part"),
            ("", "an empty part"),
            ("a=b=info", "\"b=info\" of a"),
            ("a[{b=info", "fields list"),
        ] {
            let error = log_levels(given).expect_err(given);
            assert!(error.contains(hint), "{given}: {error}");
        }
    }
}
