# meets JSONArgsRecommended, MultipleInstructionsDisallowed, WorkdirRelativePath, LegacyKeyValueFormat
FROM busybox AS base
WORKDIR app
WORKDIR deeper
CMD one
CMD ["two"]
ENTRYPOINT three
ENTRYPOINT ["four"]
HEALTHCHECK CMD five
HEALTHCHECK --interval=3s --retries=2 CMD ["six"]
ENV KEY the value
LABEL name the value
FROM base
WORKDIR more
CMD seven
SHELL ["/bin/ash", "-c"]
ENTRYPOINT eight
