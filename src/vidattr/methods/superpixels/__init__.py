"""Methods that divide a clip into superpixels in space and time."""
