//! EROFS images, image layout v1.
