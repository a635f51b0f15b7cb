FROM empty
COPY a /a
