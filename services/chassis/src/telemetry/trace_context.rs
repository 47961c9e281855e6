//! The trace that a call belongs to, as its headers say.

use std::fmt;

use http::HeaderValue;

/// A trace's id: 32 hexadecimal digits in lower case, not all of them zero.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TraceId([u8; 32]);

impl TraceId {
    /// Of a W3C `traceparent`, `00-TRACE-PARENT-FLAGS`; None if it is malformed, or all zeros.
    /// <https://www.w3.org/TR/trace-context/#traceparent-header>
    pub(crate) fn of_traceparent(header: &HeaderValue) -> Option<Self> {
        let mut fields = header.to_str().ok()?.split('-');
        let (version, trace, parent) = (fields.next()?, fields.next()?, fields.next()?);
        let flags = fields.next()?;
        // A later version may have more fields.
        let is_whole = fields.next().is_none() || version != "00";
        let is_known = is_hex(version, 2) && version != "ff";
        let rest_is_valid = is_hex(parent, 16) && is_hex(flags, 2) && !is_zero(parent);
        (is_whole && is_known && rest_is_valid)
            .then(|| Self::of_digits(trace.bytes()))
            .flatten()
    }

    /// Of the root in an `X-Amzn-Trace-Id`, `Root=1-SECONDS-REST`; None if there is no such root.
    /// <https://docs.aws.amazon.com/xray/latest/devguide/xray-concepts.html#xray-concepts-tracingheader>
    pub(crate) fn of_amzn(header: &HeaderValue) -> Option<Self> {
        let mut fields = header.to_str().ok()?.split(';');
        let root = fields.find_map(|field| field.trim().strip_prefix("Root="))?;
        let (seconds, rest) = root.strip_prefix("1-")?.split_once('-')?;
        (is_hex(seconds, 8) && is_hex(rest, 24))
            .then(|| Self::of_digits(seconds.bytes().chain(rest.bytes())))
            .flatten()
    }

    fn of_digits(digits: impl Iterator<Item = u8>) -> Option<Self> {
        let mut id = [b'0'; 32];
        let mut count = 0;
        for digit in digits {
            *id.get_mut(count)? = digit;
            count += 1;
        }
        let id = Self(id);
        (count == 32 && is_hex(id.as_str(), 32) && !is_zero(id.as_str())).then_some(id)
    }

    /// The digits.
    pub fn as_str(&self) -> &str {
        // They are ASCII.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

fn is_hex(text: &str, digits: usize) -> bool {
    let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    text.len() == digits && text.bytes().all(is_digit)
}

fn is_zero(text: &str) -> bool {
    text.bytes().all(|byte| byte == b'0')
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::TraceId;

    const ID: &str = "67891233abcdef012345678912345678";

    fn found(of: fn(&HeaderValue) -> Option<TraceId>, header: &str) -> Option<String> {
        of(&HeaderValue::from_str(header).expect("a header")).map(|id| id.to_string())
    }

    #[test]
    fn a_traceparent_has_four_fields_of_lower_case_digits_and_a_later_version_more() {
        let of = |header: &str| found(TraceId::of_traceparent, header);
        let parent = "00f067aa0ba902b7";
        for valid in [
            format!("00-{ID}-{parent}-01"),
            format!("01-{ID}-{parent}-01-more"),
        ] {
            assert_eq!(of(&valid).as_deref(), Some(ID), "{valid}");
        }
        for invalid in [
            String::new(),
            ID.to_owned(),
            format!("00-{ID}-{parent}"),
            format!("00-{ID}-{parent}-01-more"),
            format!("ff-{ID}-{parent}-01"),
            format!("00-{}-{parent}-01", ID.to_uppercase()),
            format!("00-{}-{parent}-01", "0".repeat(32)),
            format!("00-{ID}0-{parent}-01"),
            format!("00-{}-{parent}-01", &ID[1..]),
            format!("00-{ID}-0000000000000000-01"),
            format!("00-{ID}-{parent}-x1"),
        ] {
            assert_eq!(of(&invalid), None, "{invalid}");
        }
    }

    #[test]
    fn an_amzn_trace_id_has_its_root_anywhere() {
        let of = |header: &str| found(TraceId::of_amzn, header);
        let root = "Root=1-67891233-abcdef012345678912345678";
        for valid in [
            root.to_owned(),
            format!("Self=1-67891234-12456789abcdef012345678;{root}"),
            format!("{root};Parent=53995c3f42cd8ad8;Sampled=1"),
            format!("Sampled=0; {root}"),
        ] {
            assert_eq!(of(&valid).as_deref(), Some(ID), "{valid}");
        }
        for invalid in [
            "",
            "Root=",
            "Root=1-67891233",
            "Root=2-67891233-abcdef012345678912345678",
            "Root=1-67891233-ABCDEF012345678912345678",
            "Root=1-00000000-000000000000000000000000",
            "Self=1-67891233-abcdef012345678912345678",
        ] {
            assert_eq!(of(invalid), None, "{invalid}");
        }
    }
}
