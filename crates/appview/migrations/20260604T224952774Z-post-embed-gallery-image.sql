create table "post_embed_gallery_image" (
  "postUri" varchar not null,
  "position" varchar not null,
  "imageCid" varchar not null,
  "alt" varchar not null,
  constraint "post_embed_gallery_image_pkey" primary key ("postUri", "position")
);
