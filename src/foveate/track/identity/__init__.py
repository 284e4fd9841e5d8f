"""Who is who: several subjects that meet, told apart once all of a video has been tracked."""
