//! Names and greetings.

/// A name that can be greeted: 1 to [`Name::LONGEST`] bytes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Name(String);

/// Why a name cannot be greeted.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    Empty,
    TooLong { bytes: usize },
}

impl Name {
    /// The length in bytes.
    pub(crate) const LONGEST: usize = 1024;

    pub(crate) fn parse(name: String) -> Result<Self, Refused> {
        match name.len() {
            0 => Err(Refused::Empty),
            bytes if bytes > Self::LONGEST => Err(Refused::TooLong { bytes }),
            _ => Ok(Self(name)),
        }
    }

    pub(crate) fn hello(&self) -> String {
        format!("Hello {}", self.0)
    }

    /// Five greetings, each with its number.
    pub(crate) fn hellos(self) -> impl Iterator<Item = String> {
        (1..=5).map(move |number| format!("{} ({number} of 5)", self.hello()))
    }
}

#[cfg(test)]
mod tests {
    use super::{Name, Refused};

    #[test]
    fn a_name_has_1_to_1024_bytes() {
        assert_eq!(Name::parse(String::new()), Err(Refused::Empty));
        assert!(Name::parse("é".repeat(512)).is_ok());
        assert_eq!(
            Name::parse("é".repeat(513)),
            Err(Refused::TooLong { bytes: 1026 })
        );
    }
}
