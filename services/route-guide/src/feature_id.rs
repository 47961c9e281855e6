//! The identity of a feature.

/// A feature: its position in the file, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct FeatureId(pub(crate) u32);

impl FeatureId {
    pub(crate) fn index(self) -> usize {
        self.0 as usize
    }
}
