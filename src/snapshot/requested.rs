//! What the labels of a new snapshot ask for.

use std::ops::RangeInclusive;

use super::model::MAX_SIZE_LABEL;
use super::{Error, Labels};
use crate::config::WritableLayer;
use crate::expose::idmap::{GID_LABEL, IdMap, IdMapping, UID_LABEL};

/// The user namespace that a snapshot with these labels is for. None if they name none.
///
/// # Errors
/// [`Error::InvalidLabel`] if a text is no mapping, or if only one of the two is there: containerd
/// shifts users and groups together or not at all.
pub(super) fn id_mapping(labels: &Labels) -> Result<Option<IdMapping>, Error> {
    match (id_map(labels, UID_LABEL)?, id_map(labels, GID_LABEL)?) {
        (None, None) => Ok(None),
        (Some(uids), Some(gids)) => Ok(Some(IdMapping { uids, gids })),
        (Some(_), None) => Err(alone(GID_LABEL)),
        (None, Some(_)) => Err(alone(UID_LABEL)),
    }
}

/// The refusal of a user namespace where nothing can shift owners.
pub(super) fn no_user_namespaces() -> Error {
    invalid(
        UID_LABEL,
        "set",
        "plans of the raw flavour have no mount that shifts owners: use another profile",
    )
}

fn id_map(labels: &Labels, label: &'static str) -> Result<Option<IdMap>, Error> {
    let Some(text) = given(labels, label) else { return Ok(None) };
    text.parse().map(Some).map_err(|reason| invalid(label, text, reason))
}

fn alone(missing: &'static str) -> Error {
    invalid(missing, "", "a user namespace maps users and groups, and the other label is set")
}

/// The size in bytes that a snapshot with these labels is to be limited to. None if they name none.
///
/// # Errors
/// [`Error::InvalidLabel`] if the text is no decimal number, or is out of `range`.
pub(super) fn max_size(labels: &Labels, range: &RangeInclusive<u64>) -> Result<Option<u64>, Error> {
    let Some(text) = given(labels, MAX_SIZE_LABEL) else { return Ok(None) };
    let bytes = text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten();
    match bytes {
        Some(bytes) if range.contains(&bytes) => Ok(Some(bytes)),
        _ => {
            let reason = format!("it is not a number of bytes from {} to {}", range.start(), range.end());
            Err(invalid(MAX_SIZE_LABEL, text, reason))
        }
    }
}

/// Sizes that a writable block can have, in bytes.
pub(super) const BLOCK_SIZES: RangeInclusive<u64> = WritableLayer::SMALLEST..=WritableLayer::LARGEST;

/// Sizes that the directories of a snapshot can be limited to, in bytes.
pub(super) const DIRECTORY_SIZES: RangeInclusive<u64> = 4096..=WritableLayer::LARGEST;

fn given<'a>(labels: &'a Labels, label: &str) -> Option<&'a str> {
    labels.get(label).map(String::as_str).filter(|text| !text.is_empty())
}

fn invalid(label: &'static str, value: &str, reason: impl ToString) -> Error {
    Error::InvalidLabel { label, value: value.to_owned(), reason: reason.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn a_mapping_needs_both_labels_and_names_the_wrong_one() {
        let of = |pairs: &[(&str, &str)]| id_mapping(&labels(pairs)).map_err(|error| error.to_string());
        assert_eq!(of(&[("other", "x")]), Ok(None));
        assert_eq!(of(&[(UID_LABEL, "")]), Ok(None));
        let both = of(&[(UID_LABEL, "0:1000:5"), (GID_LABEL, "0:2000:5")]).unwrap().unwrap();
        assert_eq!((both.uids.root(), both.gids.root()), (1000, 2000));
        for (pairs, named) in [
            (&[(UID_LABEL, "0:1:5")][..], GID_LABEL),
            (&[(GID_LABEL, "0:1:5")], UID_LABEL),
            (&[(UID_LABEL, "0:1:5"), (GID_LABEL, "no")], GID_LABEL),
            (&[(UID_LABEL, "1:1:5"), (GID_LABEL, "0:1:5")], UID_LABEL),
        ] {
            let error = of(pairs).unwrap_err();
            assert!(error.contains(named), "{error}");
        }
    }

    #[test]
    fn a_size_is_a_decimal_number_in_range() {
        let of = |text: &str| max_size(&labels(&[(MAX_SIZE_LABEL, text)]), &BLOCK_SIZES);
        assert_eq!(of("").unwrap(), None);
        assert_eq!(of("16777216").unwrap(), Some(16 << 20));
        for text in ["0", "1", "16777215", "20GiB", "-5", "+16777216", "99999999999999999999", " 16777216"] {
            assert!(matches!(of(text), Err(Error::InvalidLabel { label: MAX_SIZE_LABEL, .. })), "{text}");
        }
    }
}
