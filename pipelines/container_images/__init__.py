"""The steps' images: built, weighed and pushed. Needs the docker program and no package of the project's."""
