//! Pages of listings, as SPIRE makes them: the token is the row of the last item, and a page with an item always has
//! one, so that a client that pages to the end sees one last empty page.

use crate::store::Row;

/// A page token that is no row.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("could not parse token '{0}'")]
pub(crate) struct BadToken(String);

/// One page of a listing.
#[derive(Debug)]
pub(crate) struct Page {
    /// None for everything in one answer.
    size: Option<usize>,
    after: Row,
}

impl Page {
    /// A size of zero or less asks for everything, and then the token doesn't matter.
    pub(crate) fn new(size: i32, token: &str) -> Result<Self, BadToken> {
        let size = usize::try_from(size).ok().filter(|size| *size > 0);
        let after = match token {
            _ if size.is_none() => 0,
            "" => 0,
            digits if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                digits.parse().map_err(|_| BadToken(token.to_owned()))?
            }
            _ => return Err(BadToken(token.to_owned())),
        };
        Ok(Self {
            size,
            after: Row(after),
        })
    }

    /// The row after which the page starts.
    pub(crate) fn after(&self) -> Row {
        self.after
    }

    /// The page out of the matching items after [`Page::after`], and the token of the next.
    pub(crate) fn take<T>(&self, items: impl Iterator<Item = (Row, T)>) -> (Vec<T>, String) {
        let mut last = None;
        let page: Vec<T> = items
            .take(self.size.unwrap_or(usize::MAX))
            .map(|(row, item)| {
                last = Some(row);
                item
            })
            .collect();
        let token = last
            .filter(|_| self.size.is_some())
            .map_or_else(String::new, |Row(row)| row.to_string());
        (page, token)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows() -> impl Iterator<Item = (Row, u64)> {
        (1..=4).map(|row| (Row(row), row))
    }

    #[test]
    fn a_page_with_an_item_has_a_token_and_the_last_page_is_empty() {
        let (items, token) = Page::new(2, "").unwrap().take(rows());
        assert_eq!((items, token.as_str()), (vec![1, 2], "2"));
        let page = Page::new(2, "2").unwrap();
        let (items, token) = page.take(rows().filter(|(row, _)| *row > page.after()));
        assert_eq!((items, token.as_str()), (vec![3, 4], "4"));
        let (items, token) = Page::new(5, "").unwrap().take(rows());
        assert_eq!((items.len(), token.as_str()), (4, "4"));
        let (items, token) = Page::new(2, "4").unwrap().take(std::iter::empty::<(Row, u64)>());
        assert_eq!((items, token.as_str()), (vec![], ""));
    }

    #[test]
    fn without_a_size_everything_comes_at_once_whatever_the_token() {
        let (items, token) = Page::new(0, "junk").unwrap().take(rows());
        assert_eq!((items.len(), token.as_str()), (4, ""));
        assert!(Page::new(-5, "").unwrap().size.is_none());
    }

    #[test]
    fn bad_tokens() {
        for token in ["x", "-1", "+1", " 1 ", "1.5", "99999999999999999999999"] {
            assert_eq!(
                Page::new(1, token).unwrap_err().to_string(),
                format!("could not parse token '{token}'")
            );
        }
        assert_eq!(Page::new(1, "0").unwrap().after(), Row(0));
    }
}
