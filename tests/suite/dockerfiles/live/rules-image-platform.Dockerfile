# meets InvalidBaseImagePlatform
# The image has but one manifest, and that is for another machine than it says.
FROM liar
RUN true
