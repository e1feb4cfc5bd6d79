// PNG and JPEG through libpng and libjpeg. Both report errors by longjmp: the functions that call them hold no
// object with a destructor.
#include <csetjmp>
#include <cstdio>  // jpeglib.h needs it before

#include <jpeglib.h>
#include <png.h>

#include <algorithm>
#include <cstring>

#include "tandem/base/file.h"
#include "tandem/data/dataset.h"

namespace tandem::data {
namespace {

struct Failure {
  std::jmp_buf jump;
  char message[JMSG_LENGTH_MAX + 1] = "";
};

struct Png {
  Failure failure;
  png_structp png = nullptr;
  png_infop info = nullptr;
  const unsigned char* next = nullptr;
  std::size_t left = 0;
  std::uint32_t width = 0, height = 0, channels = 0;
  ~Png() { png_destroy_read_struct(&png, &info, nullptr); }
};

void png_fail(png_structp png, png_const_charp message) {
  auto* f = static_cast<Failure*>(png_get_error_ptr(png));
  std::snprintf(f->message, sizeof f->message, "%s", message);
  std::longjmp(f->jump, 1);
}
void png_quiet(png_structp, png_const_charp) {}
void png_feed(png_structp png, png_bytep out, std::size_t n) {
  auto* s = static_cast<Png*>(png_get_io_ptr(png));
  if (n > s->left) png_error(png, "the file ends early");
  std::memcpy(out, s->next, n);
  s->next += n;
  s->left -= n;
}

bool png_header(Png& s) {
  if (setjmp(s.failure.jump)) return false;
  s.png = png_create_read_struct(PNG_LIBPNG_VER_STRING, &s.failure, png_fail, png_quiet);
  if (!s.png) return false;
  s.info = png_create_info_struct(s.png);
  if (!s.info) return false;
  png_set_read_fn(s.png, &s, png_feed);
  png_set_user_limits(s.png, 65535, 65535);
  png_read_info(s.png, s.info);
  png_set_expand(s.png);    // palette to colours, few bits to 8
  png_set_strip_16(s.png);
  png_set_strip_alpha(s.png);
  png_set_interlace_handling(s.png);
  png_read_update_info(s.png, s.info);
  s.width = png_get_image_width(s.png, s.info);
  s.height = png_get_image_height(s.png, s.info);
  s.channels = png_get_channels(s.png, s.info);
  return true;
}

bool png_pixels(Png& s, png_bytepp rows) {
  if (setjmp(s.failure.jump)) return false;
  png_read_image(s.png, rows);
  png_read_end(s.png, nullptr);
  return true;
}

struct Jpeg {
  Failure failure;
  jpeg_error_mgr errors{};
  jpeg_decompress_struct d{};
  bool created = false;
  ~Jpeg() {
    if (created) jpeg_destroy_decompress(&d);
  }
};

void jpeg_fail(j_common_ptr c) {
  auto* s = static_cast<Jpeg*>(c->client_data);
  c->err->format_message(c, s->failure.message);
  std::longjmp(s->failure.jump, 1);
}
void jpeg_warn(j_common_ptr c, int level) {
  if (level < 0) jpeg_fail(c);  // damaged data that libjpeg would paint over
}

bool jpeg_header(Jpeg& s, const unsigned char* data, std::size_t n) {
  s.d.err = jpeg_std_error(&s.errors);
  s.errors.error_exit = jpeg_fail;
  s.errors.emit_message = jpeg_warn;
  s.d.client_data = &s;
  if (setjmp(s.failure.jump)) return false;
  jpeg_create_decompress(&s.d);
  s.created = true;
  jpeg_mem_src(&s.d, data, static_cast<unsigned long>(n));
  jpeg_read_header(&s.d, TRUE);
  s.d.out_color_space = s.d.jpeg_color_space == JCS_GRAYSCALE ? JCS_GRAYSCALE : JCS_RGB;
  s.d.dct_method = JDCT_ISLOW;  // the one every build computes alike
  s.d.do_fancy_upsampling = TRUE;
  jpeg_calc_output_dimensions(&s.d);
  return true;
}

bool jpeg_pixels(Jpeg& s, unsigned char* out) {
  if (setjmp(s.failure.jump)) return false;
  jpeg_start_decompress(&s.d);
  const std::size_t row = static_cast<std::size_t>(s.d.output_width) * static_cast<std::size_t>(s.d.output_components);
  while (s.d.output_scanline < s.d.output_height) {
    JSAMPROW p = out + s.d.output_scanline * row;
    jpeg_read_scanlines(&s.d, &p, 1);
  }
  jpeg_finish_decompress(&s.d);
  return true;
}

// [height, width, channels] to [channels, height, width].
Tensor planar(const std::vector<unsigned char>& in, std::uint64_t h, std::uint64_t w, std::uint64_t c) {
  Tensor t(DType::u8, {static_cast<std::int64_t>(c), static_cast<std::int64_t>(h), static_cast<std::int64_t>(w)});
  auto* out = t.data<std::uint8_t>();
  for (std::uint64_t k = 0; k < c; ++k)
    for (std::uint64_t i = 0; i < h * w; ++i) out[k * h * w + i] = in[i * c + k];
  return t;
}

std::uint64_t image_bytes(std::uint64_t h, std::uint64_t w, std::uint64_t c, const Limits& limits, const std::string& where) {
  if (h == 0 || w == 0 || (c != 1 && c != 3)) throw bad_input("an image of {} x {} with {} channels", w, h, c).at(where);
  if (h * w * c > std::min(limits.elements, limits.memory_bytes))
    throw Error(Exit::limit, fmt::format("an image of {} x {}", w, h)).at(where).fix("raise the limit with --memory when the file is trusted");
  return h * w * c;
}

}  // namespace

Tensor read_image(const std::filesystem::path& path, const Limits& limits) {
  const std::string where = path.string(), bytes = read_file(path, limits);
  const auto* data = reinterpret_cast<const unsigned char*>(bytes.data());
  const auto damaged = [&](const char* why) { return bad_input("the image cannot be read: {}", *why ? printable(why) : "unknown reason").at(where); };
  if (bytes.starts_with("\x89PNG")) {
    Png s;
    s.next = data;
    s.left = bytes.size();
    if (!png_header(s)) throw damaged(s.failure.message);
    std::vector<unsigned char> pixels(image_bytes(s.height, s.width, s.channels, limits, where));
    std::vector<png_bytep> rows(s.height);
    for (std::size_t r = 0; r < rows.size(); ++r) rows[r] = pixels.data() + r * s.width * s.channels;
    if (!png_pixels(s, rows.data())) throw damaged(s.failure.message);
    return planar(pixels, s.height, s.width, s.channels);
  }
  if (bytes.starts_with("\xff\xd8")) {
    Jpeg s;
    if (!jpeg_header(s, data, bytes.size())) throw damaged(s.failure.message);
    const auto c = static_cast<std::uint64_t>(s.d.out_color_space == JCS_GRAYSCALE ? 1 : 3);
    std::vector<unsigned char> pixels(image_bytes(s.d.output_height, s.d.output_width, c, limits, where));
    if (!jpeg_pixels(s, pixels.data())) throw damaged(s.failure.message);
    return planar(pixels, s.d.output_height, s.d.output_width, c);
  }
  throw bad_input("this is neither a PNG nor a JPEG image").at(where);
}

namespace {

namespace fs = std::filesystem;

std::vector<fs::path> children(const fs::path& folder, const Limits& limits) {
  std::vector<fs::path> r;
  std::error_code ec;
  for (fs::directory_iterator it(folder, ec), end; !ec && it != end; it.increment(ec)) {
    if (it->path().filename().string().starts_with('.')) continue;
    r.push_back(it->path());
    if (r.size() > limits.nodes) throw Error(Exit::limit, fmt::format("more than {} files", limits.nodes)).at(folder.string());
  }
  if (ec) throw bad_input("the folder cannot be read: {}", ec.message()).at(folder.string());
  std::sort(r.begin(), r.end(), [](const fs::path& a, const fs::path& b) { return a.native() < b.native(); });
  return r;
}

}  // namespace

Dataset read_image_folder(const fs::path& folder, const Limits& limits) {
  Dataset d;
  d.name = folder.string();
  const auto subfolders = [&](const fs::path& f) {
    auto r = children(f, limits);
    for (const auto& c : r)
      if (!fs::is_directory(c)) throw bad_input("a file lies among the class folders").at(c.string()).expected("folder/<class>/<image>");
    if (r.empty()) throw bad_input("the folder has no class folders").at(f.string()).expected("folder/<class>/<image>");
    return r;
  };
  auto top = subfolders(folder);
  std::vector<std::pair<fs::path, Part>> roots;
  const bool parts = std::all_of(top.begin(), top.end(), [](const fs::path& p) {
    return p.filename() == "train" || p.filename() == "test" || p.filename() == "valid";
  });
  if (parts) for (const auto& p : top) roots.emplace_back(p, parse_part(p.filename().string()));
  else roots.emplace_back(folder, Part::train);

  struct Item {
    fs::path file;
    std::string cls;
    Part part;
  };
  std::vector<Item> items;
  for (const auto& [root, part] : roots)
    for (const auto& cls : subfolders(root)) {
      d.classes.push_back(cls.filename().string());
      for (const auto& file : children(cls, limits)) items.push_back({file, d.classes.back(), part});
    }
  std::sort(d.classes.begin(), d.classes.end());
  d.classes.erase(std::unique(d.classes.begin(), d.classes.end()), d.classes.end());
  if (items.empty()) throw bad_input("the class folders hold no images").at(d.name);
  std::vector<Tensor> images;
  std::uint64_t total = 0;
  std::int64_t channels = 1;
  for (const auto& item : items) {
    images.push_back(read_image(item.file, limits));
    const Shape &s = images.back().shape(), &first = images[0].shape();
    if (s[1] != first[1] || s[2] != first[2])
      throw bad_input("the image has {} x {} pixels", s[2], s[1]).at(item.file.string()).expected(fmt::format("{} x {} as in {}", first[2], first[1], items[0].file.string()));
    channels = std::max(channels, s[0]);
    total += images.back().bytes();
    if (total > limits.memory_bytes) throw Error(Exit::limit, fmt::format("the images take more than {} bytes", limits.memory_bytes)).at(d.name);
  }
  const std::int64_t h = images[0].shape()[1], w = images[0].shape()[2];
  d.x = Tensor(DType::u8, {std::ssize(items), channels, h, w});
  d.y = Tensor(DType::i64, {std::ssize(items)});
  auto* out = d.x.data<std::uint8_t>();
  for (std::size_t i = 0; i < items.size(); ++i) {
    for (std::int64_t c = 0; c < channels; ++c, out += h * w)
      std::memcpy(out, images[i].data<std::uint8_t>() + (images[i].shape()[0] == 1 ? 0 : c) * h * w, static_cast<std::size_t>(h * w));
    d.y.data<std::int64_t>()[i] = std::lower_bound(d.classes.begin(), d.classes.end(), items[i].cls) - d.classes.begin();
    if (parts) d.part.push_back(items[i].part);
  }
  d.full_scale = 255;
  check(d);
  return d;
}

}  // namespace tandem::data
