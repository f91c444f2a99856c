"""The name that is this distribution's own. Importing it makes sure that our packages are the ones found."""

from dimoo_batch._finder import install

install()
