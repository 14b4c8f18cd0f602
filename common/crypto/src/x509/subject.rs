//! Distinguished names, kept as they were encoded: issuer and subject are compared byte by byte.

use std::fmt;

use crate::der::{self, DerError, Reader, Writer};
use crate::oid;

/// A distinguished name: relative names in order, each the DER of its SET.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct Subject {
    relative_names: Vec<Box<[u8]>>,
}

impl Subject {
    /// The name without any part.
    pub fn empty() -> Self {
        Self::default()
    }

    /// `C=US, O=SPIRE`, the subject of leaves unless something else was asked for (as SPIRE does).
    pub fn spire() -> Self {
        Self::empty()
            .with(oid::COUNTRY, "US")
            .with(oid::ORGANIZATION, "SPIRE")
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, DerError> {
        reader.sequence(|name| {
            let mut relative_names = Vec::new();
            while !name.is_empty() {
                let set = name.element(der::SET)?;
                let mut attributes = Reader::new(set.content);
                while !attributes.is_empty() {
                    attributes.sequence(|attribute| {
                        attribute.content(der::OID)?;
                        attribute.any()
                    })?;
                }
                relative_names.push(set.raw.into());
            }
            Ok(Self { relative_names })
        })
    }

    /// Whether the name has no part.
    pub fn is_empty(&self) -> bool {
        self.relative_names.is_empty()
    }

    /// The DER of the Name.
    pub fn to_der(&self) -> Vec<u8> {
        Writer::build(|w| w.sequence(|w| self.relative_names.iter().for_each(|name| w.raw(name))))
    }

    /// Adds a part at the end: PrintableString unless the text needs UTF-8.
    pub(crate) fn with(mut self, attribute: &[u8], text: &str) -> Self {
        self.relative_names.push(part(attribute, &[text]));
        self
    }

    /// Adds one part with all these values at the end, as Go does; nothing if there are none.
    pub(crate) fn with_all(mut self, attribute: &[u8], texts: &[impl AsRef<str>]) -> Self {
        if !texts.is_empty() {
            self.relative_names.push(part(attribute, texts));
        }
        self
    }

    /// This name with that organizational unit, in place of those it has: right after country and organization, where Go
    /// puts it.
    pub fn with_organizational_unit(mut self, text: &str) -> Self {
        let is = |name: &[u8], kinds: &[&[u8]]| attributes(name).any(|(kind, _)| kinds.contains(&kind));
        self.relative_names
            .retain(|name| !is(name, &[oid::ORGANIZATIONAL_UNIT]));
        let before = [oid::COUNTRY, oid::ORGANIZATION];
        let last = self.relative_names.iter().rposition(|name| is(name, &before));
        let place = last.map_or(0, |last| last + 1);
        self.relative_names
            .insert(place, part(oid::ORGANIZATIONAL_UNIT, &[text]));
        self
    }

    /// This name with that common name, in place of those it has.
    pub fn with_common_name(mut self, text: &str) -> Self {
        self.relative_names
            .retain(|name| attributes(name).all(|(kind, _)| kind != oid::COMMON_NAME));
        self.with(oid::COMMON_NAME, text)
    }

    /// The last common name, as text.
    pub fn common_name(&self) -> Option<String> {
        let all = self.relative_names.iter().flat_map(|name| attributes(name));
        let values = all
            .filter(|(kind, _)| *kind == oid::COMMON_NAME)
            .map(|(_, value)| value);
        values
            .last()
            .map(|value| String::from_utf8_lossy(value).into_owned())
    }
}

fn part(attribute: &[u8], texts: &[impl AsRef<str>]) -> Box<[u8]> {
    let values = texts.iter().map(|text| {
        Writer::build(|w| {
            w.sequence(|w| {
                w.oid(attribute);
                w.directory_string(text.as_ref());
            });
        })
    });
    let mut values: Vec<_> = values.collect();
    // The order of a SET OF in DER (X.690, 11.6).
    values.sort();
    Writer::build(|w| w.nested(der::SET, |w| values.iter().for_each(|value| w.raw(value)))).into()
}

/// Type and content of each attribute in one relative name, which was read before.
fn attributes(relative_name: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let content = der::single(relative_name, der::SET)
        .map(|set| set.content)
        .unwrap_or_default();
    let mut reader = Reader::new(content);
    std::iter::from_fn(move || {
        reader
            .sequence(|attribute| Ok::<_, DerError>((attribute.content(der::OID)?, attribute.any()?.content)))
            .ok()
    })
}

/// Last part first, as Go prints names: `CN=db,O=SPIRE,C=US`.
impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, name) in self.relative_names.iter().rev().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            for (index, (kind, value)) in attributes(name).enumerate() {
                if index > 0 {
                    f.write_str("+")?;
                }
                match kind {
                    oid::COMMON_NAME => f.write_str("CN")?,
                    oid::COUNTRY => f.write_str("C")?,
                    oid::ORGANIZATION => f.write_str("O")?,
                    oid::ORGANIZATIONAL_UNIT => f.write_str("OU")?,
                    [0x55, 0x04, 0x07] => f.write_str("L")?,
                    [0x55, 0x04, 0x08] => f.write_str("ST")?,
                    oid::SERIAL_NUMBER => f.write_str("SERIALNUMBER")?,
                    other => f.write_str(&oid::dotted(other))?,
                }
                write!(f, "={}", String::from_utf8_lossy(value).escape_debug())?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Subject({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn common_name_is_replaced_not_repeated() {
        let subject = Subject::spire().with_common_name("one").with_common_name("two");
        assert_eq!(subject.to_string(), "CN=two,O=SPIRE,C=US");
        assert_eq!(subject.common_name().as_deref(), Some("two"));
    }

    /// Found beside SPIRE: two organizations are one part of the name with two values.
    #[test]
    fn values_of_one_kind_are_one_part() {
        let subject = Subject::empty()
            .with_all(oid::COUNTRY, &[""; 0])
            .with_all(oid::ORGANIZATION, &["Other", "Org"])
            .with_common_name("ca");
        assert_eq!(subject.to_string(), "CN=ca,O=Org+O=Other");
        assert_eq!(
            Subject::read(&mut Reader::new(&subject.to_der())).unwrap(),
            subject
        );
    }

    #[test]
    fn an_organizational_unit_is_replaced_and_follows_the_organization() {
        let subject = Subject::spire().with(oid::SERIAL_NUMBER, "7");
        let subject = subject
            .with_organizational_unit("one")
            .with_organizational_unit("two");
        assert_eq!(subject.to_string(), "SERIALNUMBER=7,OU=two,O=SPIRE,C=US");
        let subject = Subject::empty()
            .with_common_name("ca")
            .with_organizational_unit("one");
        assert_eq!(subject.to_string(), "CN=ca,OU=one");
    }

    #[test]
    fn names_read_back_byte_by_byte() {
        let der = Subject::spire().with_common_name("Zürich").to_der();
        let read = Subject::read(&mut Reader::new(&der)).unwrap();
        assert_eq!(read.to_der(), der);
        assert!(
            Subject::read(&mut Reader::new(&Subject::empty().to_der()))
                .unwrap()
                .is_empty()
        );
    }
}
