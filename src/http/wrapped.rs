//! What all types have in common that are a request of ruma's and something more.

/// Lets the type deref to the request in this field, and be served where that is, authenticated like this.
macro_rules! wraps_request {
    ($name:ident, $field:tt, $authentication:ty) => {
        impl<T> std::ops::Deref for $name<T> {
            type Target = T;

            fn deref(&self) -> &T {
                &self.$field
            }
        }

        impl<T: ruma::api::Metadata> ruma::api::Metadata for $name<T> {
            const METHOD: http::Method = T::METHOD;
            const RATE_LIMITED: bool = T::RATE_LIMITED;
            type Authentication = $authentication;
            type PathBuilder = T::PathBuilder;
            const PATH_BUILDER: Self::PathBuilder = T::PATH_BUILDER;
        }
    };
}
pub(crate) use wraps_request;
