//! Path arguments of requests that ruma has no type for.

use crate::error::MatrixError;

/// The path argument at this place, as an id.
pub fn argument<T: for<'a> TryFrom<&'a str>>(arguments: &[String], place: usize) -> Result<T, MatrixError> {
    let text = arguments.get(place).map(String::as_str);
    let id = text.and_then(|text| T::try_from(text).ok());
    id.ok_or_else(|| MatrixError::invalid_param("the path holds something else than ids"))
}
